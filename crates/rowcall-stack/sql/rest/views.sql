-- What views are made of: the parsed query of each view that is not PostgreSQL's own, for the lineage of its columns.
select
  c.oid,
  n.nspname::text as schema,
  c.relname::text as name,
  r.ev_action::text as query
from pg_catalog.pg_rewrite r
join pg_catalog.pg_class c on c.oid = r.ev_class
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where r.rulename = '_RETURN'
  and c.relkind in ('v', 'm')
  and n.nspname not in ('pg_catalog', 'information_schema')
order by n.nspname, c.relname
