-- Changes the members that $2 names and leaves the others. $1 id, $2 a JSON object with columns of the published table
update public.rtx_activities a
   set (raw_data, old_data, status, locked_by, locked_at, completed_at, error_message, attempted_by, retry_count, result) =
       (select r.raw_data, r.old_data, r.status, r.locked_by, r.locked_at, r.completed_at, r.error_message, r.attempted_by,
               r.retry_count, r.result
          from jsonb_populate_record(a, $2::text::jsonb) r)
 where a.id = $1
returning {columns}
