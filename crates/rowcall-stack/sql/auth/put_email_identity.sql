-- The e-mail identity of user $1 with data $2, made or brought up to date at $3.
insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
values ($1::uuid::text, $1, $2, 'email', $3, $3, $3)
on conflict (provider_id, provider) do update set identity_data = excluded.identity_data, updated_at = excluded.updated_at
