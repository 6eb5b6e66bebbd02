-- Forgets old tasks started by name. ?1 before
delete from triggers where created_at < ?1
