-- The same for several source tables: the table with the oldest task comes first and is drained before the next, so that no
-- table starves and none is scanned through for another. The outer limit stops the locking, row by row.
select c.ctid
  from (
    select t.number, t.source_table, (
        select a.created_at from public.rtx_activities a
         where coalesce(a.status, 'pending') = 'pending' and a.source_table = t.source_table
         order by a.created_at {direction} limit 1
      ) as head
      from (values {tables}) t (number, source_table)
     order by head {direction} nulls last
  ) t
  cross join lateral (
    select a.ctid
      from public.rtx_activities a
     where coalesce(a.status, 'pending') = 'pending'
       and a.source_table = t.source_table
       and (case t.number {conditions} end)
       and {eligible}
     order by a.created_at {direction}
     limit {limit}
       for update skip locked
  ) c
 limit {limit}
