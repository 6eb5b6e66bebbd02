-- Foreign keys with both ends in the exposed schemas ($1 text[]), one row each. Those that PostgreSQL keeps for single
-- partitions of a declared one are left out.
select
  cn.nspname::text as schema,
  cc.relname::text as name,
  fn.nspname::text as foreign_schema,
  fc.relname::text as foreign_name,
  k.conname::text as constraint_name,
  (select pg_catalog.array_agg(a.attname::text order by p.position)
     from pg_catalog.unnest(k.conkey) with ordinality p(attnum, position)
     join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.attnum) as columns,
  (select pg_catalog.array_agg(a.attname::text order by p.position)
     from pg_catalog.unnest(k.confkey) with ordinality p(attnum, position)
     join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.attnum) as foreign_columns
from pg_catalog.pg_constraint k
join pg_catalog.pg_class cc on cc.oid = k.conrelid
join pg_catalog.pg_namespace cn on cn.oid = cc.relnamespace
join pg_catalog.pg_class fc on fc.oid = k.confrelid
join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
where k.contype = 'f'
  and k.conparentid = 0
  and cn.nspname = any ($1)
  and fn.nspname = any ($1)
order by cn.nspname, cc.relname, k.conname
