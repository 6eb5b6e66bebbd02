-- Decisions, by app and permission. ?1 app or null
select app, permission, decision, decided_by, decided_at from grants
where ?1 is null or app = ?1
order by app, permission
