-- What a role may see of a table: $1 the table, $2 the role. No row when there is no such role.
select r.rolbypassrls or r.rolsuper as bypasses,
       case when pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'usage') then coalesce((
         select pg_catalog.array_agg(a.attname::text)
           from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'select')
       ), '{}') else '{}' end as columns
  from pg_catalog.pg_roles r
  join pg_catalog.pg_class c on c.oid = $1
 where r.rolname = $2
