-- rtx_fn_complete_task(target_task_id, result_data) -> whether the task was completed.
--
-- Does not look at the holder: clients of the published protocol have no machine to name here. The daemon settles with
-- guarded statements of its own.
create or replace function public.rtx_fn_complete_task(target_task_id uuid, result_data jsonb) returns boolean
language plpgsql set search_path = '' as $$
begin
  update public.rtx_activities
     set status = 'completed', result = result_data, completed_at = now()
   where id = target_task_id and coalesce(status, '') in ('claimed', 'processing'); -- by id, not through the index of leased rows
  return found;
end
$$;
