json_build_object(
  'id', a.id, 'user_id', a.user_id, 'raw_data', a.raw_data, 'old_data', a.old_data, 'status', a.status,
  'locked_by', a.locked_by,
  'locked_at', to_char(a.locked_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
  'completed_at', to_char(a.completed_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
  'error_message', a.error_message, 'attempted_by', coalesce(a.attempted_by, '{}'),
  'retry_count', coalesce(a.retry_count, 0), 'result', a.result,
  'created_at', to_char(a.created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
)::text
