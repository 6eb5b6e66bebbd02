-- The state of our replication slot: $1 its name. No row when there is none in this database. `reader` is the application
-- name of whoever reads it now.
select s.wal_status = 'lost' as is_lost,
       s.active_pid,
       a.application_name as reader
  from pg_catalog.pg_replication_slots s
  left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
 where s.slot_name = $1
   and s.database = current_database()
