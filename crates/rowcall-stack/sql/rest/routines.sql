-- Functions of the exposed schemas ($1 text[]) that the API may call, one row each: parameters as JSON in declared order,
-- what is returned, volatility, and the settings the function declares.
select
  n.nspname::text as schema,
  p.proname::text as name,
  coalesce((
    select pg_catalog.json_agg(pg_catalog.json_build_object(
             'name', coalesce(a.name, ''),
             'type', pg_catalog.format_type(a.type, null),
             'required', a.number <= p.pronargs - p.pronargdefaults,
             'variadic', coalesce(a.mode = 'v', false)
           ) order by a.number)
      from (
        select i.name, i.mode, i.type, pg_catalog.row_number() over (order by i.position) as number
          from unnest(
                 coalesce(p.proallargtypes, p.proargtypes::oid[]),
                 p.proargnames,
                 p.proargmodes
               ) with ordinality i(type, name, mode, position)
         where coalesce(i.mode, 'i') in ('i', 'b', 'v')
      ) a
  ), '[]')::text as parameters,
  p.proretset as returns_set,
  p.prorettype = 'pg_catalog.void'::pg_catalog.regtype as returns_void,
  (
    t.typtype = 'c'
    or (t.typtype = 'd' and b.typtype = 'c')
    or p.prorettype = 'pg_catalog.record'::pg_catalog.regtype
    or coalesce(p.proargmodes::text[] && array['t', 'b', 'o'], false)
  ) as returns_composite,
  rn.nspname::text as relation_schema,
  rc.relname::text as relation_name,
  p.provolatile::text as volatility,
  coalesce(p.proconfig, '{}') as settings
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
join pg_catalog.pg_type t on t.oid = p.prorettype
left join pg_catalog.pg_type b on b.oid = t.typbasetype
left join pg_catalog.pg_class rc on rc.oid = t.typrelid and rc.relkind in ('r', 'v', 'm', 'f', 'p')
left join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
where p.prokind = 'f'
  and n.nspname = any ($1)
  and p.prorettype not in ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
order by n.nspname, p.proname, p.oid
