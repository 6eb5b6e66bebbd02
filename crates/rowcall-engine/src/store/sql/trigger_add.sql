-- Remembers a task started by name; a repeat of its event changes nothing.
-- ?1 task, ?2 caller, ?3 event id, ?4 attempt id, ?5 title, ?6 source app, ?7 app, ?8 agent, ?9 workspace, ?10 thread,
-- ?11 prompt, ?12 capability, ?13 auto run, ?14 now
insert into triggers
    (task_id, caller, event_id, attempt_id, title, source_app, app, agent, workspace_slug, thread_slug, prompt,
     capability_id, auto_run, created_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
on conflict do nothing
