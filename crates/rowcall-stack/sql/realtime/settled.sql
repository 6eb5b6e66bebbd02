-- Whether everybody sees these transactions as finished: $1 their 32-bit ids.
--
-- A commit is in the WAL, and decoded, a moment before its backend leaves the list of running transactions. Until then other
-- sessions do not see its rows. The ids lack their epoch; it is that of the nearest id to the next one.
select coalesce(pg_catalog.bool_and(pg_catalog.pg_xact_status((next + near)::text::xid8) <> 'in progress'), true) as settled
  from (select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8 as next) as s
 cross join lateral (
   select case when ahead >= 2147483648 then ahead - 4294967296 else ahead end as near
     from (select (((xid - next) % 4294967296) + 4294967296) % 4294967296 as ahead
             from pg_catalog.unnest($1::int8[]) as x (xid)) as distances
 ) as nearest
