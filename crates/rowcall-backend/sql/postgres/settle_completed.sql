-- Completes tasks whose lease is still ours. {machine}, {ids}, {attempts}, {results}. The lock columns stay, as in the
-- published protocol: they say who did it.
-- coalesce: each row is found by its id. Without it the index of leased rows fits, and is read through for every one of them.
update public.rtx_activities a
   set status = 'completed', result = done.result, completed_at = now()
  from unnest({ids}::uuid[], {attempts}::integer[], {results}::jsonb[]) as done (id, attempt, result)
 where a.id = done.id and a.locked_by = {machine} and a.attempt = done.attempt and coalesce(a.status, '') in ('claimed', 'processing')
returning a.id
