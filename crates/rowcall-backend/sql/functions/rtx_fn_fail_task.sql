-- rtx_fn_fail_task(target_task_id, machine_id, error_msg) -> whether the task is failed and names this machine.
--
-- Fails what this machine holds (or nobody does) and what is pending and unlocked; never a completed task, never one that
-- another machine holds. The machine is listed once; a repeat changes nothing and returns true.
create or replace function public.rtx_fn_fail_task(target_task_id uuid, machine_id text, error_msg text) returns boolean
language plpgsql set search_path = '' as $$
begin
  update public.rtx_activities
     set status = 'failed',
         error_message = error_msg,
         attempted_by = case
           when machine_id = any (coalesce(attempted_by, '{}')) then attempted_by
           else pg_catalog.array_append(coalesce(attempted_by, '{}'), machine_id)
         end,
         retry_count = coalesce(retry_count, 0) + 1,
         locked_by = null,
         locked_at = null,
         retry_at = null
   where id = target_task_id
     and ((status in ('claimed', 'processing') and coalesce(locked_by, machine_id) = machine_id)
       or (coalesce(status, 'pending') = 'pending' and locked_by is null));
  return found or exists (
    select from public.rtx_activities
     where id = target_task_id and status = 'failed' and machine_id = any (coalesce(attempted_by, '{}'))
  );
end
$$;
