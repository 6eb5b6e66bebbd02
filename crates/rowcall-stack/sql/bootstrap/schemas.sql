-- The schemas `auth` and `extensions`, and the grants that make tables of `public` reachable through the API.
--
-- All of it happens only where schema `auth` does not exist yet, which marks a database that was never set up: default
-- privileges that somebody took away later are not given back, and tables that were there before are not opened.
-- As on Supabase, future objects of `public` are granted to the API roles and row level security is the gate.
do $$
declare
  extension text;
begin
  if pg_catalog.to_regnamespace('auth') is not null then
    return;
  end if;

  create schema auth;
  grant usage on schema auth to anon, authenticated, service_role;

  if pg_catalog.to_regnamespace('extensions') is null then
    create schema extensions;
    grant usage on schema extensions to anon, authenticated, service_role;
    foreach extension in array array['pgcrypto', 'uuid-ossp'] loop
      if exists (select from pg_catalog.pg_available_extensions where name = extension and installed_version is null) then
        begin
          execute pg_catalog.format('create extension %I with schema extensions', extension);
        exception when others then
          raise notice 'extension % is not installed: %', extension, sqlerrm;
        end;
      end if;
    end loop;
  end if;

  -- Functions of extensions are found without naming their schema, as on Supabase.
  if not exists (
    select from pg_catalog.pg_db_role_setting s
      join pg_catalog.pg_database d on d.oid = s.setdatabase
     where d.datname = current_database() and s.setrole = 0
       and exists (select from unnest(s.setconfig) c where c like 'search_path=%')
  ) then
    execute pg_catalog.format('alter database %I set search_path to "$user", public, extensions', current_database());
  end if;

  grant usage on schema public to anon, authenticated, service_role;
  alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
  alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
  alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
end
$$;
