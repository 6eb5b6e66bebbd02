-- The roles every Supabase client, policy and grant names: anon, authenticated, service_role and authenticator.
--
-- Creates what is missing and leaves alone what exists; on a Supabase project nothing is missing. Roles belong to the
-- whole cluster, so two databases may be set up at once: the lock makes the second wait and then find the roles there.
-- Needs createrole (and bypassrls for service_role) only when something is missing.
do $$
declare
  wanted text;
begin
  if (select count(*) from pg_catalog.pg_roles
       where rolname in ('anon', 'authenticated', 'service_role', 'authenticator')) < 4 then
    begin
      lock table pg_catalog.pg_authid in share row exclusive mode;
    exception when insufficient_privilege then
      null; -- not a superuser: the only price is an error when two set-ups race
    end;
    if not exists (select from pg_catalog.pg_roles where rolname = 'anon') then
      create role anon nologin inherit;
      alter role anon set statement_timeout = '3s';
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'authenticated') then
      create role authenticated nologin inherit;
      alter role authenticated set statement_timeout = '8s';
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
      create role service_role nologin bypassrls;
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'authenticator') then
      create role authenticator login noinherit;
      alter role authenticator set statement_timeout = '8s';
      alter role authenticator set lock_timeout = '8s';
    end if;
    foreach wanted in array array['anon', 'authenticated', 'service_role'] loop
      if not pg_catalog.pg_has_role('authenticator', wanted, 'member') then
        execute pg_catalog.format('grant %I to authenticator', wanted);
      end if;
      -- Whoever sets this up must be able to act as the API roles; a superuser can anyway.
      if not pg_catalog.pg_has_role(current_user, wanted, 'member') then
        execute pg_catalog.format('grant %I to current_user', wanted);
      end if;
    end loop;
  end if;
end
$$;
