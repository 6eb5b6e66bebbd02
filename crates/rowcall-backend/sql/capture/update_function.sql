-- One activity for one updated row, in the writer's transaction, when something changed beyond the bookkeeping of the
-- protocol itself.
create or replace function rowcall.{function}() returns trigger
language plpgsql security definer set search_path = '' as $rowcall$
declare
  owner uuid;
  new_row jsonb := to_jsonb(new);
  old_row jsonb := to_jsonb(old);
begin
  if new_row{ignored} = old_row{ignored} then
    return null;
  end if;
  if current_setting('request.jwt.claims', true) <> '' or current_setting('request.jwt.claim.sub', true) <> '' then
    owner := rowcall.signed_in_user();
  end if;
  insert into public.rtx_activities (user_id, raw_data, old_data, source_table, source_event, source_key)
  values (owner, new_row, old_row, {source}, 'UPDATE', {key});
  return null;
end
$rowcall$
