-- The publication that postgres_changes reads: it exists and is empty. Tables are added by their owner with
-- `alter publication supabase_realtime add table …`.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$$;
