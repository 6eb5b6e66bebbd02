-- Remembers a task that was seen; a task that is there already stays as it is.
-- ?1 task table, ?2 task id, ?3 source table, ?4 event, ?5 app, ?6 agent, ?7 trigger, ?8 state, ?9 now
insert into calendar (task_table, task_id, source_table, event, app, agent, trigger, state, seen_at, updated_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
on conflict (task_id, task_table) do nothing
