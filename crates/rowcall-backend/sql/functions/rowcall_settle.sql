-- rowcall_settle(machine, verdicts) -> the ids of the tasks for which the verdict stands: written now, or by an earlier call whose
-- answer was lost.
--
-- verdicts is a JSON array of {"id", "attempt", "state", "result", "error", "retry_in"}, each task once; state is completed, failed or
-- canceled, retry_in the seconds until the same machine may try again. A lease that is no longer this machine's, or of another
-- attempt, is not written.
create or replace function public.rowcall_settle(machine text, verdicts jsonb) returns setof uuid
language sql set search_path = '' as $$
  with done as (
    select * from pg_catalog.jsonb_to_recordset(verdicts)
      as d (id uuid, attempt integer, state text, result jsonb, error text, retry_in double precision)
     where d.state in ('completed', 'failed', 'canceled')
  ), written as (
    update public.rtx_activities a
       set status = done.state,
           result = case done.state when 'completed' then done.result else a.result end,
           completed_at = case done.state when 'completed' then now() else a.completed_at end,
           error_message = case done.state when 'completed' then a.error_message else done.error end,
           attempted_by = case
             when done.state <> 'failed' or machine = any (coalesce(a.attempted_by, '{}')) then a.attempted_by
             else pg_catalog.array_append(coalesce(a.attempted_by, '{}'), machine)
           end,
           retry_count = case done.state when 'failed' then coalesce(a.retry_count, 0) + 1 else a.retry_count end,
           retry_at = case done.state when 'failed' then now() + pg_catalog.make_interval(secs => done.retry_in) end,
           locked_by = case done.state when 'completed' then a.locked_by end,
           locked_at = case done.state when 'completed' then a.locked_at end
      from done
     where a.id = done.id
       and a.locked_by = machine
       and a.attempt = done.attempt
       and coalesce(a.status, '') in ('claimed', 'processing') -- by id, not through the index of leased rows
    returning a.id
  )
  select id from written
  union
  -- The snapshot of this statement: what stood before it.
  select a.id
    from done
    join public.rtx_activities a on a.id = done.id
   where a.attempt = done.attempt
     and a.status = done.state
     and case done.state
       when 'completed' then a.locked_by = machine
       when 'failed' then machine = any (coalesce(a.attempted_by, '{}'))
       else true
     end
$$;
