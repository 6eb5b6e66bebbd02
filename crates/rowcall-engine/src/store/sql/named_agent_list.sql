-- Agents that were started by name, of one app. ?1 app
select agent from named_agents where app = ?1 order by agent
