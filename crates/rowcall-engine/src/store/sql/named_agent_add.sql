-- Remembers that an agent was started by name. ?1 app, ?2 agent, ?3 now
insert into named_agents (app, agent, since) values (?1, ?2, ?3)
on conflict do nothing
