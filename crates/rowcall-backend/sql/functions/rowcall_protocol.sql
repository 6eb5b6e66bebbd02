-- rowcall_protocol() -> what this database offers to daemons that only reach it over REST: the version of the rowcall_* functions
-- beside this one, the tables whose changes a trigger captures, and whether row level security hides activities. Shows names
-- of tables, no data.
create or replace function public.rowcall_protocol() returns jsonb
language sql stable security definer set search_path = '' as $$
  select pg_catalog.jsonb_build_object(
    'version', 1,
    'captured', coalesce((select pg_catalog.jsonb_agg(c.source order by c.source) from rowcall.captures c), '[]'::jsonb),
    'row_security', (select c.relrowsecurity from pg_catalog.pg_class c where c.oid = 'public.rtx_activities'::regclass)
  )
$$;
