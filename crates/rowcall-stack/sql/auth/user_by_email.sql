-- The user who signs in with the address $1 (lower case), if there is one.
select id, aud, role, email, encrypted_password, email_confirmed_at, phone, confirmed_at, last_sign_in_at,
       raw_app_meta_data, raw_user_meta_data, created_at, updated_at, is_anonymous, banned_until
  from auth.users
 where email = $1 and not is_sso_user and deleted_at is null
