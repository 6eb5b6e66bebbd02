-- Removes an activity. $1 id
delete from public.rtx_activities a where a.id = $1 returning a.id::text
