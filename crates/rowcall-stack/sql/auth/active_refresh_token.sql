-- The newest refresh token of session $1 that still counts, and the one it replaced.
select token, parent
  from auth.refresh_tokens
 where session_id = $1 and revoked = false
 order by id desc
 limit 1
