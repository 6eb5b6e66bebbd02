-- rtx_fn_claim_task(target_task_id, machine_id) -> whether the claim was won.
--
-- One conditional update, so that concurrent claims are safe beside any other implementation of this protocol. Claimable is
-- what is pending or failed, or leased and stale for more than five minutes by this clock, and was not failed by this
-- machine. Null counts as pending, as no machines, and as infinitely old. Counts the attempt.
create or replace function public.rtx_fn_claim_task(target_task_id uuid, machine_id text) returns boolean
language plpgsql set search_path = '' as $$
begin
  update public.rtx_activities
     set status = 'claimed', locked_by = machine_id, locked_at = now(), attempt = attempt + 1, retry_at = null
   where id = target_task_id
     and (coalesce(status, 'pending') in ('pending', 'failed')
       or (status in ('claimed', 'processing') and coalesce(locked_at, '-infinity') < now() - interval '5 minutes'))
     and not (machine_id = any (coalesce(attempted_by, '{}')));
  return found;
end
$$;
