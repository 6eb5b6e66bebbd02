-- The tables that views may show: oid, name, primary key, and the names of their columns with their numbers.
select
  c.oid,
  n.nspname::text as schema,
  c.relname::text as name,
  coalesce((
    select pg_catalog.array_agg(a.attname::text order by k.position)
      from pg_catalog.pg_constraint p
     cross join lateral pg_catalog.unnest(p.conkey) with ordinality k(attnum, position)
      join pg_catalog.pg_attribute a on a.attrelid = p.conrelid and a.attnum = k.attnum
     where p.conrelid = c.oid and p.contype = 'p'
  ), '{}') as primary_key,
  array(select a.attnum::int from pg_catalog.pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as numbers,
  array(select a.attname::text from pg_catalog.pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'f')
  and n.nspname not in ('pg_catalog', 'information_schema')
