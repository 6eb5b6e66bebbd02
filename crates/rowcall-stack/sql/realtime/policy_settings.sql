-- Puts on the role and settings policies see, for this transaction only: $1 the role, $2 the topic, $3 all claims as JSON,
-- $4 claim sub. Tells where the WAL is.
select pg_catalog.pg_current_wal_insert_lsn()::text,
       pg_catalog.set_config('realtime.topic', $2, true),
       pg_catalog.set_config('request.jwt.claims', $3, true),
       pg_catalog.set_config('request.jwt.claim.sub', $4, true),
       pg_catalog.set_config('request.jwt.claim.role', $1, true),
       pg_catalog.set_config('request.headers', '{}', true),
       pg_catalog.set_config('role', $1, true)
