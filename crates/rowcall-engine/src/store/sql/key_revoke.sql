-- Revokes a key. ?1 name, ?2 now
update api_keys set revoked_at = ?2 where name = ?1 and revoked_at is null
