-- Completes, fails or cancels tasks whose lease is still ours. {machine}, {ids}, {attempts}, {results}, then {states},
-- {errors} and {delays} (seconds until the same machine may try again, or null).
-- coalesce: each row is found by its id. Without it the index of leased rows fits, and is read through for every one of them.
update public.rtx_activities a
   set status = done.state,
       result = case done.state when 'completed' then done.result else a.result end,
       completed_at = case done.state when 'completed' then now() else a.completed_at end,
       error_message = case done.state when 'completed' then a.error_message else done.error end,
       attempted_by = case
         when done.state <> 'failed' or {machine} = any (coalesce(a.attempted_by, '{}')) then a.attempted_by
         else array_append(coalesce(a.attempted_by, '{}'), {machine})
       end,
       retry_count = case done.state when 'failed' then coalesce(a.retry_count, 0) + 1 else a.retry_count end,
       retry_at = case done.state when 'failed' then now() + make_interval(secs => done.delay) end,
       locked_by = case done.state when 'completed' then a.locked_by end,
       locked_at = case done.state when 'completed' then a.locked_at end
  from unnest({ids}::uuid[], {attempts}::integer[], {results}::jsonb[], {states}::text[], {errors}::text[], {delays}::float8[])
       as done (id, attempt, result, state, error, delay)
 where a.id = done.id and a.locked_by = {machine} and a.attempt = done.attempt and coalesce(a.status, '') in ('claimed', 'processing')
returning a.id
