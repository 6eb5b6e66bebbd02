-- Puts on a role and its claims, for this transaction only: $1 the role, $2 all claims as JSON.
select pg_catalog.set_config('request.jwt.claims', $2, true),
       pg_catalog.set_config('role', $1, true)
