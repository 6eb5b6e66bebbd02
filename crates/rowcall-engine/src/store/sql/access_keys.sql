-- Every key that is not revoked.
select name, hash, admin from api_keys where revoked_at is null
