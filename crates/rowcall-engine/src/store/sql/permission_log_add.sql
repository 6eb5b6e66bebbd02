-- Remembers what was decided. ?1 now, ?2 app, ?3 permission, ?4 what, ?5 decided by
insert into permission_log (at, app, permission, what, decided_by) values (?1, ?2, ?3, ?4, ?5)
