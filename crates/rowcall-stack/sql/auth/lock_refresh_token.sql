-- The refresh token $1 with its session, which is locked so that of two refreshes one waits for the other. session_id is
-- null where the session is gone.
select t.token, t.revoked, t.updated_at, s.id as session_id, s.user_id, s.not_after
  from auth.refresh_tokens t
  left join auth.sessions s on s.id = t.session_id
 where t.token = $1
