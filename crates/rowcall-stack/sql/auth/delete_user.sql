-- Deletes user $1 with sessions, identities and whatever the user's own tables cascade to.
delete from auth.users where id = $1 returning id
