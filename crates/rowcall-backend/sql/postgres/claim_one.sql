-- Claims one named task: pending, failed, or leased and stale.
-- $1 machine, $2 id, $3 max attempts, $4 same machine again, $5 lease in seconds.
update public.rtx_activities a
   set status = 'claimed', locked_by = $1, locked_at = now(), attempt = a.attempt + 1, retry_at = null
 where a.id = $2
   and (coalesce(a.status, 'pending') in ('pending', 'failed')
     or (a.status in ('claimed', 'processing')
       and coalesce(a.locked_at, '-infinity') < now() - make_interval(secs => $5)))
   and {eligible}
returning {columns}
