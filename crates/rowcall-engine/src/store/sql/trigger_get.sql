-- One task started by name. ?1 task or null, ?2 caller and ?3 event id when there is no task
select task_id, caller, event_id, attempt_id, title, source_app, app, agent, workspace_slug, thread_slug, prompt,
    capability_id, auto_run, created_at
from triggers
where task_id = ?1 or (?1 is null and caller = ?2 and event_id = ?3)
