-- The wake-up triggers of queues. $1: names of queue tables. Contract: one row per table that has the trigger; `gate` is the
-- name its gate goes by (the trigger's argument). Reads the catalogue only.
select pg_catalog.convert_from(
         pg_catalog.decode(pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 1), 'escape'), 'UTF8') as gate
  from unnest($1::text[]) n(name)
  join pg_catalog.pg_trigger t on t.tgrelid = pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', n.name))
 where t.tgname = 'rowcall_wake' and t.tgenabled <> 'D' and not t.tgisinternal
