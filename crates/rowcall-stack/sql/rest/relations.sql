-- Tables, views, materialized views, foreign and partitioned tables of the exposed schemas ($1 text[]), one row each:
-- schema, name, kind, bits of pg_relation_is_updatable, primary key, columns as JSON.
-- Types print with their schema because search_path is empty while this runs.
select
  n.nspname::text as schema,
  c.relname::text as name,
  c.relkind::text as kind,
  pg_catalog.pg_relation_is_updatable(c.oid, true) as writable,
  coalesce((
    select pg_catalog.array_agg(a.attname::text order by k.position)
      from pg_catalog.pg_constraint p
     cross join lateral pg_catalog.unnest(p.conkey) with ordinality k(attnum, position)
      join pg_catalog.pg_attribute a on a.attrelid = p.conrelid and a.attnum = k.attnum
     where p.conrelid = c.oid and p.contype = 'p'
  ), '{}') as primary_key,
  coalesce((
    select pg_catalog.json_agg(pg_catalog.json_build_object(
             'name', a.attname,
             'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
             'base', pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null),
             'default', case
               when a.attidentity <> '' then
                 pg_catalog.format('nextval(%L)', pg_catalog.pg_get_serial_sequence(a.attrelid::regclass::text, a.attname))
               when a.attgenerated = '' then pg_catalog.pg_get_expr(d.adbin, d.adrelid)
             end
           ) order by a.attnum)
      from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid
      left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ), '[]')::text as columns
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'v', 'm', 'f', 'p')
  and n.nspname = any ($1)
