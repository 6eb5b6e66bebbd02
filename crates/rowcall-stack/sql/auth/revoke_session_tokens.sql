-- All refresh tokens of session $1 end at $2: one of them was used twice.
update auth.refresh_tokens set revoked = true, updated_at = $2 where session_id = $1 and revoked = false
