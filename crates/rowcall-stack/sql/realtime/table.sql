-- A published table a binding names, with its columns as one role sees them: $1 schema, $2 table, $3 publication, $4 role.
-- No row when the publication has no such table.
select a.attname::text as name,
       a.atttypid as type,
       pg_catalog.format_type(a.atttypid, null) as type_sql,
       t.typtype = 'e' as is_enum,
       t.typcategory = 'S' as is_text,
       case when a.attcollation <> 0 and a.attcollation <> t.typcollation
            then pg_catalog.format(' collate %I.%I', cn.nspname, co.collname) else '' end as collation_sql,
       coalesce(co.collisdeterministic, true) as is_deterministic,
       pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'select') as is_selectable
  from pg_catalog.pg_publication_tables p
  join pg_catalog.pg_namespace n on n.nspname = p.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_type t on t.oid = a.atttypid
  left join pg_catalog.pg_collation co on co.oid = a.attcollation
  left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace
  join pg_catalog.pg_roles r on r.rolname = $4
 where p.pubname = $3 and p.schemaname = $1 and p.tablename = $2
 order by a.attnum
