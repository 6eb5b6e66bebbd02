-- Pending and failed tasks of these selectors, the newest first. $1 limit, $2 max attempts (for needs_attention), and for a
-- later page $3 created_at and $4 id of the last task of the page before. Each branch reads its index from the new end and
-- stops at the limit, however long the backlog is.
select {columns}
  from public.rtx_activities a
 where a.id = any (array(
   select u.id from ({branches}) u order by u.created_at desc, u.id desc limit $1
 ))
 order by a.created_at desc, a.id desc
