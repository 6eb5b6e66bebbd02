-- Functions from the row type of a relation to a set of rows of another, in the exposed schemas ($1 text[]): relationships
-- that are computed. `rows 1` makes one to-one.
select
  pn.nspname::text as function_schema,
  p.proname::text as function_name,
  an.nspname::text as schema,
  ac.relname::text as name,
  rn.nspname::text as foreign_schema,
  rc.relname::text as foreign_name,
  p.prorows = 1 as single_row
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
join pg_catalog.pg_type at on at.oid = p.proargtypes[0]
join pg_catalog.pg_class ac on ac.oid = at.typrelid and ac.relkind in ('r', 'v', 'm', 'f', 'p')
join pg_catalog.pg_namespace an on an.oid = ac.relnamespace
join pg_catalog.pg_type rt on rt.oid = p.prorettype
join pg_catalog.pg_class rc on rc.oid = rt.typrelid and rc.relkind in ('r', 'v', 'm', 'f', 'p')
join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
where p.prokind = 'f'
  and p.pronargs = 1
  and p.proretset
  and pn.nspname = any ($1)
  and an.nspname = any ($1)
  and rn.nspname = any ($1)
