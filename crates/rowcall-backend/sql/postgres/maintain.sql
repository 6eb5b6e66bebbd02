-- One look at everything that is due. $1 machine, $2 lease in seconds, $3 max attempts, $4 same machine again.
-- Recovers stale leases of every table, says whether something is claimable by these selectors now, counting what was just
-- recovered, and in how many seconds this machine may try again something it failed. Shows every hour that this listener
-- ($1) lives; an idle daemon writes nothing otherwise.
with recovered as (
  update public.rtx_activities
     set status = 'pending', locked_by = null, locked_at = null
   where status in ('claimed', 'processing')
     and coalesce(locked_at, '-infinity'::timestamptz) < now() - make_interval(secs => $2)
  returning *
), alive as (
  update rowcall.listeners set seen_at = now() where name = $1 and seen_at < now() - interval '1 hour'
)
select coalesce((select array_agg(id) from recovered), '{}'),
       {ready}
       or exists (select from recovered a where {selected} and {eligible}),
       (select extract(epoch from min(a.retry_at) - now())::float8
          from public.rtx_activities a
         where $4 and a.status = 'failed' and coalesce(a.retry_count, 0) < $3
           and a.retry_at > now() and $1 = any (coalesce(a.attempted_by, '{}')) and {selected})
