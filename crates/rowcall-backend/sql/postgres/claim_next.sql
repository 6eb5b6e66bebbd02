-- Claims what the candidates name. The rows are locked by this statement, so they are addressed directly by ctid; a row that
-- changed between snapshot and lock is not found and waits for the next claim.
update public.rtx_activities a
   set status = 'claimed', locked_by = $1, locked_at = now(), attempt = a.attempt + 1, retry_at = null
 where a.ctid = any (array({candidates}))
returning {columns}
