-- A person approved an entry whose task is claimed by itself from now on. ?1 task table, ?2 task id, ?3 app, ?4 agent,
-- ?5 source table, ?6 now
update calendar
set app = ?3, agent = ?4, source_table = ?5, trigger = 'auto', state = 'seen', scheduled_for = null, updated_at = ?6
where task_table = ?1 and task_id = ?2 and state <> 'running'
