-- Switches an app on or off. ?1 name, ?2 enabled, ?3 now
update apps set enabled = ?2, updated_at = ?3 where name = ?1
