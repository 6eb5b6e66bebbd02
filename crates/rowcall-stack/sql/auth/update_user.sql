-- Changes what is given of user $1 and leaves the rest: $2 e-mail, $3 password hash, $4 when the address was confirmed,
-- $5 and $6 members to merge into app and user metadata, $7 role, $8 banned until ('epoch' lifts a ban), $9 now.
-- A user with an address is not anonymous any more. Returns whether the user exists.
update auth.users
   set email = coalesce($2, email),
       encrypted_password = coalesce($3, encrypted_password),
       email_confirmed_at = coalesce($4, email_confirmed_at),
       raw_app_meta_data = jsonb_strip_nulls(coalesce(raw_app_meta_data, '{}') || coalesce($5::jsonb, '{}')),
       raw_user_meta_data = jsonb_strip_nulls(coalesce(raw_user_meta_data, '{}') || coalesce($6::jsonb, '{}')),
       role = coalesce($7, role),
       banned_until = case when $8 = 'epoch'::timestamptz then null else coalesce($8, banned_until) end,
       is_anonymous = is_anonymous and $2 is null,
       updated_at = $9
 where id = $1 and deleted_at is null
returning id
