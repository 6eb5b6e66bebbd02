-- A session of user $1 opened at $2 by method $3 ('password', 'anonymous'), with refresh token $4, user agent $5 and
-- address $6. Returns the session's id.
with signed_in as (
  update auth.users set last_sign_in_at = $2, updated_at = $2 where id = $1 returning id
), session as (
  insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
  select gen_random_uuid(), id, $2, $2, 'aal1', $5, $6::text::inet from signed_in
  returning id
), method as (
  insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
  select gen_random_uuid(), id, $2, $2, $3 from session
), token as (
  insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, session_id)
  select '00000000-0000-0000-0000-000000000000', $4, $1::uuid::text, false, $2, $2, id from session
)
select id from session
