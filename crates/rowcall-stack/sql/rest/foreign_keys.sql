-- Foreign keys of the whole database (views of exposed schemas may show tables of others), one row each. Those that
-- PostgreSQL keeps for single partitions of a declared one are left out. "unique": at most one row has a given key;
-- "in_primary_key": all its columns are part of the primary key, as in a junction.
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
     join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.attnum) as foreign_columns,
  exists (select from pg_catalog.pg_constraint u
           where u.conrelid = k.conrelid and u.contype in ('p', 'u') and u.conkey <@ k.conkey) as "unique",
  exists (select from pg_catalog.pg_constraint u
           where u.conrelid = k.conrelid and u.contype = 'p' and k.conkey <@ u.conkey) as in_primary_key
from pg_catalog.pg_constraint k
join pg_catalog.pg_class cc on cc.oid = k.conrelid
join pg_catalog.pg_namespace cn on cn.oid = cc.relnamespace
join pg_catalog.pg_class fc on fc.oid = k.confrelid
join pg_catalog.pg_namespace fn on fn.oid = fc.relnamespace
where k.contype = 'f'
  and k.conparentid = 0
order by cn.nspname, cc.relname, k.conname
