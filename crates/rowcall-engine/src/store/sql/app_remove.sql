-- Removes an app; its calendar entries and attempts stay. ?1 name
delete from apps where name = ?1
