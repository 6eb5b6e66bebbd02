-- One entry. ?1 id or null, ?2 task table, ?3 task id
select id, task_table, task_id, source_table, event, app, agent, trigger, state, attempt, error, seen_at, updated_at,
    scheduled_for
from calendar
where id = ?1 or (?1 is null and task_table = ?2 and task_id = ?3)
