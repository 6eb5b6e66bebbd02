-- The row of an attempt whose lines come before its start. ?1 task table, ?2 task id, ?3 attempt, ?4 now
insert into attempts (task_table, task_id, attempt, started_at) values (?1, ?2, ?3, ?4)
on conflict (task_id, task_table, attempt) do update set attempt = excluded.attempt
returning id, log_lines
