-- Every role: whether requests may act as it (granted to the authenticator, or to whom we are where there is none, and
-- no superuser), and the settings declared for it in this database that any user may set. `set role` does not apply those.
select
  r.rolname::text as name,
  not r.rolsuper and pg_catalog.pg_has_role(login.name, r.oid, 'member') as usable,
  coalesce((
    select pg_catalog.array_agg(entry order by s.setdatabase)
      from pg_catalog.pg_db_role_setting s
     cross join lateral pg_catalog.unnest(s.setconfig) entry
     where s.setrole = r.oid
       and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
       and (pg_catalog.strpos(pg_catalog.split_part(entry, '=', 1), '.') > 0
            or exists (select from pg_catalog.pg_settings g
                        where g.name = pg_catalog.split_part(entry, '=', 1) and g.context = 'user'))
  ), '{}') as settings
from pg_catalog.pg_roles r
cross join (
  select coalesce(
    (select rolname from pg_catalog.pg_roles where rolname = 'authenticator'), current_user
  ) as name
) login
where r.rolname not like 'pg\_%'
