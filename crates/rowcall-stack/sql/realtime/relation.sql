-- What delivering the changes of a table depends on: $1 the table, $2 the publication.
--
-- `claims_matter`: some policy may look at the token. It does not where its expressions use nothing but the table's own
-- columns and built-in functions and operators, none of which reads settings or other tables; then one check serves all
-- tokens of a role. Objects of users show in pg_depend, built-in ones do not.
select c.relrowsecurity,
       coalesce((
         select pg_catalog.array_agg(a.attname::text order by k.place)
           from pg_catalog.pg_index i
          cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
          where i.indrelid = c.oid and i.indisprimary
       ), '{}') as primary_key,
       exists (
         select from pg_catalog.pg_publication_tables p
          where p.pubname = $2 and p.schemaname = n.nspname and p.tablename = c.relname
       ) as is_published,
       exists (
         select from pg_catalog.pg_policy p
          where p.polrelid = c.oid
            and p.polcmd in ('r', '*')
            and (pg_catalog.pg_get_expr(p.polqual, p.polrelid) ~* 'select|setting|set_config|_to_xml'
                 or exists (
                   select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
                      and not (d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = c.oid)))
       ) as claims_matter
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.oid = $1
