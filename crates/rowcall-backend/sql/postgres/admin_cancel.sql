-- Calls a task off. $1 id, $2 reason. Returns the status before, and whether something was done.
with before as (
  select id, coalesce(status, 'pending') as status from public.rtx_activities where id = $1 for update
), changed as (
  update public.rtx_activities a
     set status = 'canceled', locked_by = null, locked_at = null, error_message = $2
    from before b
   where a.id = b.id and b.status not in ('completed', 'canceled')
  returning a.id
)
select b.status, exists (select from changed) from before b
