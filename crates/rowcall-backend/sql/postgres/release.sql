-- Gives leases back unrun. $1 machine, $2 ids, $3 attempts. Returns the ids that were still ours.
-- coalesce: each row is found by its id. Without it the index of leased rows fits, and is read through for every one of them.
update public.rtx_activities a
   set status = 'pending', locked_by = null, locked_at = null
  from unnest($2::uuid[], $3::integer[]) as lease (id, attempt)
 where a.id = lease.id and a.locked_by = $1 and a.attempt = lease.attempt and coalesce(a.status, '') in ('claimed', 'processing')
returning a.id
