-- All keys by name.
select name, hint, admin, created_at, last_used_at, revoked_at from api_keys order by name
