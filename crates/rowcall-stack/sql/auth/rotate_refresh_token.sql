-- Token $1 of session $2 and user $3 ends at $4, token $5 takes its place.
with ended as (
  update auth.refresh_tokens set revoked = true, updated_at = $4 where token = $1 and revoked = false returning token
), refreshed as (
  update auth.sessions set refreshed_at = $4 at time zone 'utc', updated_at = $4 where id = $2
)
insert into auth.refresh_tokens (instance_id, token, user_id, revoked, created_at, updated_at, parent, session_id)
select '00000000-0000-0000-0000-000000000000', $5, $3::uuid::text, false, $4, $4, token, $2 from ended
