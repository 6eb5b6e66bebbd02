-- Where the WAL is: changes committed from now on come at or after this position.
select pg_catalog.pg_current_wal_insert_lsn()::text
