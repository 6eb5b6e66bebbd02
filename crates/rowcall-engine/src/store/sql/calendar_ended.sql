-- The end of an attempt that was remembered in an earlier batch. A released task is open again: seen, or waiting when it
-- needs a person. ?1 task table, ?2 task id, ?3 attempt, ?4 state, ?5 state for review, ?6 error, ?7 now
update calendar
set state = case trigger when 'review' then ?5 else ?4 end, error = ?6, updated_at = ?7
where task_table = ?1 and task_id = ?2 and attempt = ?3
