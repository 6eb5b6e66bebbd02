-- rowcall_examine(tables) -> what `rowcall doctor` wants to know of a project and cannot see over REST: for every table that is
-- named ("schema.name", quoted as to_regclass reads it) whether it is there, in which ways Realtime and REST see it, and
-- whether row level security lets anybody through; then the longest statement of the role that asks.
--
-- Whoever has a key of the project may call it, strangers included. So it shows only what that role could find out by itself:
-- a table to which it has no right, and of which Realtime tells nothing, looks like one that does not exist.
create or replace function public.rowcall_examine(tables jsonb) returns jsonb
language sql stable security definer set search_path = '' as $$
  with caller as (
    select nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' as role
  )
  select pg_catalog.jsonb_build_object(
    'role', caller.role,
    'statement_timeout', (
      select pg_catalog.split_part(setting, '=', 2)
        from pg_catalog.pg_roles, pg_catalog.unnest(rolconfig) setting
       where rolname = caller.role
         and setting like 'statement_timeout=%'),
    'tables', coalesce((
      select pg_catalog.jsonb_object_agg(wanted.name, pg_catalog.jsonb_build_object(
          'exists', c.oid is not null,
          'published', coalesce(c.published, false),
          'replica_identity', c.relreplident = 'f',
          'row_security', c.relrowsecurity,
          'policies', (select count(*) from pg_catalog.pg_policy where polrelid = c.oid),
          'readable', coalesce(pg_catalog.has_table_privilege(caller.role, c.oid, 'select'), false),
          'writable', coalesce(pg_catalog.has_table_privilege(caller.role, c.oid, 'update'), false)
        ))
        from (
          select name from pg_catalog.jsonb_array_elements_text(tables) as named (name) limit 1000
        ) wanted
        left join lateral (
          select r.oid, r.relreplident, r.relrowsecurity, p.published
            from pg_catalog.pg_class r
            join pg_catalog.pg_namespace n on n.oid = r.relnamespace
            cross join lateral (
              select exists (
                select from pg_catalog.pg_publication_tables p
                 where p.pubname = 'supabase_realtime' and p.schemaname = n.nspname and p.tablename = r.relname
              ) as published
            ) p
           where r.oid = pg_catalog.to_regclass(wanted.name)
             and r.relkind in ('r', 'p', 'v', 'm', 'f')
             and (
               p.published
               or pg_catalog.has_schema_privilege(caller.role, n.oid, 'usage')
                 and pg_catalog.has_any_column_privilege(caller.role, r.oid, 'select, insert, update')
             )
        ) c on true
    ), '{}'::jsonb)
  )
  from caller
$$;
