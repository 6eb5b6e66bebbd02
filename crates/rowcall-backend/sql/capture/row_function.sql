-- One activity for one changed row, in the writer's transaction.
create or replace function rowcall.{function}() returns trigger
language plpgsql security definer set search_path = '' as $rowcall$
declare
  owner uuid;
begin
  if current_setting('request.jwt.claims', true) <> '' or current_setting('request.jwt.claim.sub', true) <> '' then
    owner := rowcall.signed_in_user();
  end if;
  insert into public.rtx_activities (user_id, {column}, source_table, source_event, source_key)
  values (owner, to_jsonb({row}), {source}, {event}, {key});
  return null;
end
$rowcall$
