-- Keeps the newest entries. ?1 how many
delete from permission_log where id <= (select max(id) from permission_log) - ?1
