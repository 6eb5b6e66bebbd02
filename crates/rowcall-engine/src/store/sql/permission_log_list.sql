-- What was decided, the newest first. ?1 app or null, ?2 limit
select id, at, app, permission, what, decided_by from permission_log
where ?1 is null or app = ?1
order by id desc limit ?2
