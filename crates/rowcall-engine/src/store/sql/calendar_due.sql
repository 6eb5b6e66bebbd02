-- Entries whose time has come, the oldest first. ?1 now, ?2 limit
select id, task_table, task_id, source_table, event, app, agent, trigger, state, attempt, error, seen_at, updated_at,
    scheduled_for
from calendar
where state = 'waiting' and scheduled_for <= ?1
order by scheduled_for
limit ?2
