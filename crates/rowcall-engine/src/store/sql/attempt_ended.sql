-- The end of an attempt. ?1 task table, ?2 task id, ?3 attempt, ?4 ended, ?5 outcome, ?6 error
update attempts set ended_at = ?4, outcome = ?5, error = ?6
where task_table = ?1 and task_id = ?2 and attempt = ?3
