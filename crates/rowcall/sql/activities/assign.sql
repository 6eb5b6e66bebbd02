-- A person approved a task started by a client: from now on the agent's own table stands there, so that it is claimed.
-- Setting the status wakes daemons that wait. $1 id, $2 the table that stands for app and agent
update public.rtx_activities
   set source_table = $2, status = 'pending'
 where id = $1 and coalesce(status, 'pending') = 'pending' and source_table like 'rowcall\_named.%'
returning id::text
