-- What decides whether the stack can be put in front of this database: one row about the server and the role that asks.
--
-- Works on every PostgreSQL since 12, so that one that is too old can be told so. `held_wal` is '-1' where a replication slot
-- may hold back any amount of WAL.
select current_setting('server_version_num')::int as version_number,
       current_setting('server_version') as version,
       current_setting('wal_level') as wal_level,
       coalesce(current_setting('max_slot_wal_keep_size', true), '-1') as held_wal,
       pg_catalog.pg_is_in_recovery() as is_standby,
       (current_setting('max_replication_slots')::bigint
         - (select count(*) from pg_catalog.pg_replication_slots)) as free_slots,
       exists (select from pg_catalog.pg_replication_slots s
                where s.database = current_database() and starts_with(s.slot_name::text, 'rowcall_realtime_')) as has_slot,
       current_database()::text as database,
       r.rolname::text as role,
       r.rolsuper as is_superuser,
       r.rolcreaterole as may_create_roles,
       r.rolreplication or exists (
         -- Amazon's servers give the right by membership.
         select from pg_catalog.pg_roles m
          where m.rolname = 'rds_replication' and pg_catalog.pg_has_role(r.oid, m.oid, 'member')
       ) as may_replicate,
       pg_catalog.has_database_privilege(current_database(), 'create') as may_create_schemas,
       array(
         select w.name from unnest(array['auth', 'extensions', 'realtime']) with ordinality as w(name, place)
          where pg_catalog.to_regnamespace(w.name) is null
          order by w.place
       ) as missing_schemas,
       array(
         select w.name from unnest(array['anon', 'authenticated', 'service_role', 'authenticator']) with ordinality as w(name, place)
          where not exists (select from pg_catalog.pg_roles p where p.rolname = w.name)
          order by w.place
       ) as missing_roles,
       array(
         select p.rolname::text from pg_catalog.pg_roles p
          where p.rolname in ('anon', 'authenticated', 'service_role')
            and not pg_catalog.pg_has_role(r.oid, p.oid, 'member')
          order by p.rolname
       ) as foreign_roles
  from pg_catalog.pg_roles r
 where r.rolname = current_user
