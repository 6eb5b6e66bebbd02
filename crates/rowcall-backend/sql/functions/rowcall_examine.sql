-- rowcall_examine(tables) -> what `rowcall doctor` wants to know of a project and cannot see over REST: for every table that is
-- named ("schema.name", quoted as to_regclass reads it) whether it is there, in which ways Realtime and REST see it, and
-- whether row level security lets anybody through; then the limits of the role that asks. Shows names and settings, no data.
create or replace function public.rowcall_examine(tables jsonb) returns jsonb
language sql stable security definer set search_path = '' as $$
  with caller as (
    select nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' as role
  )
  select pg_catalog.jsonb_build_object(
    'version', pg_catalog.current_setting('server_version'),
    'role', caller.role,
    'statement_timeout', (
      select pg_catalog.split_part(setting, '=', 2)
        from pg_catalog.pg_roles, pg_catalog.unnest(rolconfig) setting
       where rolname = caller.role
         and setting like 'statement_timeout=%'),
    'cron', exists (select from pg_catalog.pg_extension where extname = 'pg_cron'),
    'publication', exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime'),
    'tables', coalesce((
      select pg_catalog.jsonb_object_agg(wanted.name, pg_catalog.jsonb_build_object(
          'exists', c.oid is not null,
          'published', exists (
            select from pg_catalog.pg_publication_tables p
             where p.pubname = 'supabase_realtime' and p.schemaname = n.nspname and p.tablename = c.relname),
          'replica_identity', c.relreplident = 'f',
          'row_security', c.relrowsecurity,
          'policies', (select count(*) from pg_catalog.pg_policy where polrelid = c.oid),
          'readable', coalesce(pg_catalog.has_table_privilege(caller.role, c.oid, 'select'), false),
          'writable', coalesce(pg_catalog.has_table_privilege(caller.role, c.oid, 'update'), false)
        ))
        from pg_catalog.jsonb_array_elements_text(tables) wanted (name)
        left join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(wanted.name)
        left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    ), '{}'::jsonb)
  )
  from caller
$$;
