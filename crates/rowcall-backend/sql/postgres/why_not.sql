-- Why a named task could not be claimed. $1 id, $2 lease in seconds.
select coalesce(a.status, 'pending'),
       a.locked_by,
       coalesce(a.retry_count, 0),
       coalesce(a.locked_at, '-infinity') < now() - make_interval(secs => $2)
  from public.rtx_activities a
 where a.id = $1
