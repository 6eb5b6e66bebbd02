-- Up to $2 pending tasks of one source table that this machine may claim, the oldest (or newest) first, locked.
-- $1 machine, $2 limit, $3 max attempts, $4 whether a machine may try again what it failed, once retry_at has passed.
select a.ctid
  from public.rtx_activities a
 where coalesce(a.status, 'pending') = 'pending'
   and a.source_table = {table}
   and {condition}
   and {eligible}
 order by a.created_at {direction}
 limit {limit}
   for update skip locked
