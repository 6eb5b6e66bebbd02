-- rowcall_claim(machine, tasks, max_attempts, same_machine, lease_seconds) -> those of the named tasks that are now this machine's.
--
-- Claimable is what is pending, failed, or leased and stale, has not failed too often, and was not failed by this machine unless
-- that is allowed and its delay has passed. A lease is never stale before five minutes: other clients of the protocol count so.
create or replace function public.rowcall_claim(
  machine text, tasks uuid[], max_attempts integer, same_machine boolean, lease_seconds double precision
) returns setof public.rtx_activities
language sql set search_path = '' as $$
  update public.rtx_activities a
     set status = 'claimed', locked_by = machine, locked_at = now(), attempt = a.attempt + 1, retry_at = null
   where a.id = any (tasks)
     and (coalesce(a.status, 'pending') in ('pending', 'failed')
       or (a.status in ('claimed', 'processing')
         and coalesce(a.locked_at, '-infinity') < now() - pg_catalog.make_interval(secs => greatest(lease_seconds, 300))))
     and coalesce(a.retry_count, 0) < max_attempts
     and (not (machine = any (coalesce(a.attempted_by, '{}')))
       or (same_machine and coalesce(a.retry_at, '-infinity') <= now()))
  returning a.*
$$;
