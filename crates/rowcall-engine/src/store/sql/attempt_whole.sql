-- An attempt that began and ended within one batch.
-- ?1 task table, ?2 task id, ?3 attempt, ?4 app, ?5 agent, ?6 machine, ?7 started, ?8 ended, ?9 outcome, ?10 error
insert into attempts (task_table, task_id, attempt, app, agent, machine, started_at, ended_at, outcome, error)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
on conflict (task_id, task_table, attempt) do update set
    app = excluded.app, agent = excluded.agent, machine = excluded.machine, started_at = excluded.started_at,
    ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error
