-- A person chooses who handles a task started by name. ?1 task, ?2 app, ?3 agent
update triggers set app = ?2, agent = ?3 where task_id = ?1
