-- A person decides about an entry that does not run. ?1 task table, ?2 task id, ?3 state, ?4 scheduled for, ?5 now
update calendar set state = ?3, scheduled_for = ?4, updated_at = ?5
where task_table = ?1 and task_id = ?2 and state <> 'running'
