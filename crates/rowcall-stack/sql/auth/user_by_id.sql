-- The user $1, if there is one.
select id, aud, role, email, encrypted_password, email_confirmed_at, phone, confirmed_at, last_sign_in_at,
       raw_app_meta_data, raw_user_meta_data, created_at, updated_at, is_anonymous, banned_until
  from auth.users
 where id = $1 and deleted_at is null
