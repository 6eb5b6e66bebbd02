-- Everything of this database that the set-up could touch, as one text; roles only as far as it makes them.
select string_agg(line, E'\n' order by line)
  from (
    select 'schema ' || nspname || ' ' || coalesce(nspacl::text, '') as line
      from pg_namespace where nspname !~ '^pg_(temp|toast)'
    union all
    select 'relation ' || c.oid::regclass || ' ' || relkind::text || ' ' || relrowsecurity || ' ' || coalesce(relacl::text, '') || ' '
           || (select count(*) from pg_attribute a where a.attrelid = c.oid)
      from pg_class c where relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema', 'pg_toast')
    union all
    select 'function ' || p.oid::regprocedure || ' ' || coalesce(proacl::text, '') || ' ' || md5(prosrc)
      from pg_proc p where pronamespace::regnamespace::text not in ('pg_catalog', 'information_schema')
    union all
    select 'default ' || defaclrole::regrole || ' ' || defaclnamespace::regnamespace || ' ' || defaclobjtype::text || ' ' || defaclacl::text
      from pg_default_acl
    union all
    select 'trigger ' || evtname || ' ' || evtevent || ' ' || evtenabled::text from pg_event_trigger
    union all
    select 'publication ' || pubname || ' ' || pubinsert || ' ' || pubupdate from pg_publication
    union all
    select 'extension ' || extname || ' ' || extversion from pg_extension
    union all
    select 'setting ' || setrole::regrole::text || ' ' || setconfig::text
      from pg_db_role_setting
      join pg_database d on d.oid = setdatabase and d.datname = current_database()
    union all
    select 'role ' || rolname || ' ' || rolinherit || ' ' || rolcanlogin || ' ' || rolbypassrls || ' ' || coalesce(rolconfig::text, '')
      from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'authenticator')
  ) as all_of_it
