-- Remembers when a key was used last. ?1 name, ?2 now
update api_keys set last_used_at = max(coalesce(last_used_at, 0), ?2) where name = ?1
