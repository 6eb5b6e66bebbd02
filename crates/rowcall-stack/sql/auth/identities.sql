-- The identities of user $1, oldest first.
select id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at, email
  from auth.identities
 where user_id = $1
 order by created_at, id
