-- Tasks, the newest first. $1 states or null, $2 source table or null, $3 event or null, $4 only what needs attention,
-- $5 max attempts, $6 limit, $7 offset.
select {columns}
  from public.rtx_activities a
 where ($1::text[] is null or coalesce(a.status, 'pending') = any ($1::text[]))
   and ($2::text is null or a.source_table = $2::text)
   and ($3::text is null or a.source_event = $3::text)
   and (not $4::boolean
     or (coalesce(a.status, 'pending') in ('pending', 'failed') and coalesce(a.retry_count, 0) >= $5))
 order by a.created_at desc nulls last, a.id desc
 limit $6 offset $7
