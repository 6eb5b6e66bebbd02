-- rowcall_lease(machine, leases, action) -> the ids of the leases that were still this machine's.
--
-- leases is a JSON array of {"id", "attempt"}; action is `renew` (by this clock), `start` (the agent runs) or `release` (given back
-- unrun). Another machine or another attempt changes nothing.
create or replace function public.rowcall_lease(machine text, leases jsonb, action text) returns setof uuid
language sql set search_path = '' as $$
  update public.rtx_activities a
     set status = case action when 'start' then 'processing' when 'release' then 'pending' else a.status end,
         locked_by = case action when 'release' then null else a.locked_by end,
         locked_at = case action when 'renew' then now() when 'release' then null else a.locked_at end
    from pg_catalog.jsonb_to_recordset(leases) as lease (id uuid, attempt integer)
   where a.id = lease.id
     and a.locked_by = machine
     and a.attempt = lease.attempt
     and coalesce(a.status, '') in ('claimed', 'processing') -- by id, not through the index of leased rows
     and action in ('renew', 'start', 'release')
  returning a.id
$$;
