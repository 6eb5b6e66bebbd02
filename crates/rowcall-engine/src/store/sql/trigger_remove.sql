-- Forgets a task started by name that did not come to be. ?1 task
delete from triggers where task_id = ?1
