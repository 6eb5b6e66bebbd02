-- Which of these settlements stand already: an answer that was lost on the way is asked for again, and must not look like a
-- lost lease. $1 machine, $2 ids, $3 attempts, $4 states. Returns their places, counted from 1.
select done.place
  from unnest($2::uuid[], $3::integer[], $4::text[]) with ordinality as done (id, attempt, state, place)
  join public.rtx_activities a on a.id = done.id
 where a.attempt = done.attempt
   and a.status = done.state
   and case done.state
     when 'completed' then a.locked_by = $1
     when 'failed' then $1 = any (coalesce(a.attempted_by, '{}'))
     else true
   end
