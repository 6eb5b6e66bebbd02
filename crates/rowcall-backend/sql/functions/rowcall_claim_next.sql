-- rowcall_claim_next(machine, sources, max_tasks, retryable, newest_first, max_attempts, same_machine) -> the tasks that are now
-- this machine's: failed ones first where they are wanted, then pending ones, the oldest (or newest) first.
--
-- sources is a JSON array of {"table", "events"}: the values of source_table, and the events wanted there (null for all).
-- Rows that others are just claiming are skipped, so that claimers do not wait for each other.
create or replace function public.rowcall_claim_next(
  machine text, sources jsonb, max_tasks integer, retryable boolean, newest_first boolean,
  max_attempts integer, same_machine boolean
) returns setof public.rtx_activities
language plpgsql set search_path = '' as $$
declare
  direction constant text := case when newest_first then 'desc' else 'asc' end;
  -- One claim of up to $3 tasks; the first %s is the state, the second and third the direction.
  claim constant text := '
    update public.rtx_activities a
       set status = ''claimed'', locked_by = $1, locked_at = now(), attempt = a.attempt + 1, retry_at = null
     where a.ctid = any (array(
       select c.ctid
         from pg_catalog.jsonb_to_recordset($2) s ("table" text, events text[])
        cross join lateral (
          select a.ctid, a.created_at
            from public.rtx_activities a
           where %s
             and a.source_table = s."table"
             and (s.events is null or a.source_event = any (s.events))
             and coalesce(a.retry_count, 0) < $4
             and (not ($1 = any (coalesce(a.attempted_by, ''{}'')))
               or ($5 and coalesce(a.retry_at, ''-infinity'') <= now()))
           order by a.created_at %s
           limit $3
             for update skip locked
        ) c
        order by c.created_at %s
        limit $3))
    returning a.*';
  found_failed integer := 0;
begin
  if retryable and max_tasks > 0 then
    return query execute pg_catalog.format(claim, 'a.status = ''failed''', direction, direction)
      using machine, sources, max_tasks, max_attempts, same_machine;
    get diagnostics found_failed = row_count;
  end if;
  if found_failed < max_tasks then
    return query execute pg_catalog.format(claim, 'coalesce(a.status, ''pending'') = ''pending''', direction, direction)
      using machine, sources, max_tasks - found_failed, max_attempts, same_machine;
  end if;
end
$$;
