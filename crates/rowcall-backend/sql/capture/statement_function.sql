-- One activity for each changed row of a statement, in the writer's transaction.
create or replace function rowcall.{function}() returns trigger
language plpgsql security definer set search_path = '' as $rowcall$
declare
  owner uuid;
begin
  {guard}if current_setting('request.jwt.claims', true) <> '' or current_setting('request.jwt.claim.sub', true) <> '' then
    owner := rowcall.signed_in_user();
  end if;
  insert into public.rtx_activities (user_id, {column}, source_table, source_event, source_key)
  select owner, to_jsonb(r), {source}, {event}, {key}
    from rowcall_rows r{condition};
  return null;
end
$rowcall$
