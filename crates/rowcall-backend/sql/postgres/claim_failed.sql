-- Up to {limit} failed tasks that this machine may try, whatever their table; few, so they are sorted.
select a.ctid
  from public.rtx_activities a
 where a.status = 'failed'
   and coalesce(a.retry_count, 0) < $3
   and {selected}
   and {eligible}
 order by a.created_at {direction}
 limit {limit}
   for update skip locked
