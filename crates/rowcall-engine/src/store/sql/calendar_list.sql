-- Calendar entries, the newest first. ?1 state or null, ?2 app or null, ?3 task id or null, ?4 limit, ?5 offset
select id, task_table, task_id, source_table, event, app, agent, trigger, state, attempt, error, seen_at, updated_at,
    scheduled_for
from calendar
where (?1 is null or state = ?1) and (?2 is null or app = ?2) and (?3 is null or task_id = ?3)
order by id desc
limit ?4 offset ?5
