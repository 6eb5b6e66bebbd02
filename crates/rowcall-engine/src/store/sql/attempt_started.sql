-- The start of an attempt; lines of it may have come first.
-- ?1 task table, ?2 task id, ?3 attempt, ?4 app, ?5 agent, ?6 machine, ?7 started
insert into attempts (task_table, task_id, attempt, app, agent, machine, started_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
on conflict (task_id, task_table, attempt) do update set
    app = excluded.app, agent = excluded.agent, machine = excluded.machine, started_at = excluded.started_at
