-- Activities as JSON, the newest first. $1 status or null, $2 limit, $3 offset
select {columns}
  from public.rtx_activities a
 where $1::text is null or coalesce(a.status, 'pending') = $1
 order by a.created_at desc nulls last, a.id
 limit $2 offset $3
