-- Closes sessions of user $1: scope 'local' the session $2, 'others' all but it, 'global' all.
delete from auth.sessions
 where user_id = $1
   and case $3::text when 'local' then id = $2 when 'others' then id is distinct from $2 else true end
