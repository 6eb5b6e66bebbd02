-- The attempts of a task, the oldest first. ?1 task id, ?2 task table or null
select id, task_table, task_id, attempt, app, agent, machine, started_at, ended_at, outcome, error,
    log_lines, log_bytes, cut_lines
from attempts
where task_id = ?1 and (?2 is null or task_table = ?2)
order by started_at, attempt
