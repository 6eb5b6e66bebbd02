-- One task as it is now. $1 id, $2 max attempts.
select {columns}
  from public.rtx_activities a
 where a.id = $1
