-- A task that a client started and that waits for a person. ?1 task table, ?2 task id, ?3 source table, ?4 app, ?5 agent,
-- ?6 now
insert into calendar
    (task_table, task_id, source_table, event, app, agent, trigger, state, seen_at, updated_at)
values (?1, ?2, ?3, 'INSERT', ?4, ?5, 'review', 'waiting', ?6, ?6)
on conflict (task_table, task_id) do nothing
