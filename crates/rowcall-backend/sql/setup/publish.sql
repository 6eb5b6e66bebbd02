do $rowcall$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    raise exception 'there is no publication supabase_realtime: is this a Supabase project?';
  end if;
  if not exists (
    select from pg_catalog.pg_publication_tables
     where pubname = 'supabase_realtime' and schemaname = {schema} and tablename = {name}
  ) then
    alter publication supabase_realtime add table {table};
  end if;
  alter table {table} replica identity full;
end
$rowcall$;
