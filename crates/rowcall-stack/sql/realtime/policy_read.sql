-- Whether a probe row is visible to the role in force: $1 its id. The time lets the planner skip all partitions but one.
select from realtime.messages where id = $1 and inserted_at = localtimestamp
