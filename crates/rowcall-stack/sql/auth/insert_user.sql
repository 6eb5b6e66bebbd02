-- A new user; nothing comes back when the address is taken. $1 id or null, $2 e-mail or null, $3 password hash or null,
-- $4 when the address was confirmed or null, $5 app metadata, $6 user metadata, $7 anonymous, $8 role, $9 now.
insert into auth.users (
  instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data,
  is_anonymous, created_at, updated_at
)
values (
  '00000000-0000-0000-0000-000000000000', coalesce($1::uuid, gen_random_uuid()), 'authenticated', $8, $2, $3, $4, $5, $6,
  $7, $9, $9
)
on conflict do nothing
returning id
