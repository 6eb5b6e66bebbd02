-- Tables that somebody may have meant: the same name in other case or in another schema. $1 name.
select n.nspname::text, c.relname::text
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where lower(c.relname) = lower($1) and c.relkind in ('r', 'p') and n.nspname not like 'pg\_%'
 order by 1, 2
 limit 3
