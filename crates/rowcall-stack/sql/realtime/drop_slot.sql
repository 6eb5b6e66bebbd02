-- Drops our slot unless somebody reads it: $1 its name, or null for the name made from the database's. Tells whether it is gone.
with ours as materialized (
  select s.slot_name, s.active_pid
    from pg_catalog.pg_replication_slots s
   where s.database = current_database()
     and s.slot_name = coalesce($1, (
       select 'rowcall_realtime_' || d.oid from pg_catalog.pg_database d where d.datname = current_database()))
), dropped as materialized (
  select pg_catalog.pg_drop_replication_slot(slot_name) from ours where active_pid is null
)
select (select count(*) from ours) = (select count(*) from dropped) as is_gone
