-- Remembers that a task runs or has ended here, whether or not it was seen before.
-- ?1 task table, ?2 task id, ?3 source table, ?4 event, ?5 app, ?6 agent, ?7 trigger, ?8 state, ?9 now, ?10 attempt,
-- ?11 error
insert into calendar
    (task_table, task_id, source_table, event, app, agent, trigger, state, seen_at, updated_at, attempt, error)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11)
on conflict (task_id, task_table) do update set
    app = excluded.app, agent = excluded.agent, state = excluded.state, updated_at = excluded.updated_at,
    attempt = excluded.attempt, error = excluded.error
