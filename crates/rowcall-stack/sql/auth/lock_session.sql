-- Locks session $1 until the transaction ends.
select id from auth.sessions where id = $1 for update
