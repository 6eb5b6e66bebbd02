-- Takes a task from its holder. $1 id. Returns the status before, and whether something was done.
with before as (
  select id, coalesce(status, 'pending') as status from public.rtx_activities where id = $1 for update
), changed as (
  update public.rtx_activities a
     set status = 'pending', locked_by = null, locked_at = null
    from before b
   where a.id = b.id and b.status not in ('pending', 'completed', 'failed', 'canceled')
  returning a.id
)
select b.status, exists (select from changed) from before b
