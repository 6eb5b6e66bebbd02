-- Makes a task pending again and forgets who tried it: failed and canceled ones, pending ones that were tried, and those whose
-- status is a word of somebody else. $1 id. Returns the status before, and whether something was done.
with before as (
  select id, coalesce(status, 'pending') as status, coalesce(retry_count, 0) as retry_count,
         coalesce(attempted_by, '{}') as attempted_by
    from public.rtx_activities where id = $1 for update
), changed as (
  update public.rtx_activities a
     set status = 'pending', locked_by = null, locked_at = null, attempted_by = '{}', retry_count = 0, retry_at = null
    from before b
   where a.id = b.id
     and b.status not in ('claimed', 'processing', 'completed')
     and (b.status <> 'pending' or b.retry_count > 0 or b.attempted_by <> '{}')
  returning a.id
)
select b.status, exists (select from changed) from before b
