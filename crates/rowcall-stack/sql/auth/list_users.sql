-- A page of users, newest first: $1 rows after the first $2. Each row carries the number of all users.
select id, aud, role, email, encrypted_password, email_confirmed_at, phone, confirmed_at, last_sign_in_at,
       raw_app_meta_data, raw_user_meta_data, created_at, updated_at, is_anonymous, banned_until,
       (select count(*) from auth.users where deleted_at is null) as total
  from auth.users
 where deleted_at is null
 order by created_at desc, id
 limit $1 offset $2
