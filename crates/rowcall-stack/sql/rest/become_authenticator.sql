-- A superuser's session becomes one of the authenticator, with the settings declared for that role; any other session
-- stays as it is. `set session authorization` alone applies no settings.
do $$
declare
  entry text;
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = session_user)
     or not exists (select from pg_catalog.pg_roles where rolname = 'authenticator') then
    return;
  end if;
  for entry in
    select e
      from pg_catalog.pg_db_role_setting s
      join pg_catalog.pg_roles r on r.oid = s.setrole
     cross join lateral pg_catalog.unnest(s.setconfig) e
     where r.rolname = 'authenticator'
       and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
       and exists (select from pg_catalog.pg_settings g where g.name = pg_catalog.split_part(e, '=', 1) and g.context = 'user')
     order by s.setdatabase
  loop
    perform pg_catalog.set_config(pg_catalog.split_part(entry, '=', 1), pg_catalog.substr(entry, pg_catalog.strpos(entry, '=') + 1), false);
  end loop;
  set session authorization authenticator;
end
$$;
