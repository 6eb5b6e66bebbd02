-- Adds a key; a revoked one of the same name makes room. ?1 name, ?2 hash, ?3 hint, ?4 admin, ?5 now
insert into api_keys (name, hash, hint, admin, created_at) values (?1, ?2, ?3, ?4, ?5)
on conflict (name) do update set
    hash = excluded.hash, hint = excluded.hint, admin = excluded.admin, created_at = excluded.created_at,
    last_used_at = null, revoked_at = null
where revoked_at is not null
