-- What queues and broadcasts depend on and what fails in silence. Contract: rows of (check, severity, message), severity one of
-- ok, warning, error; reads catalogues and settings only, and works whatever is missing.
with has as (
  select pg_catalog.to_regprocedure('pgmq.send(text,jsonb,integer)') is not null as pgmq,
         (select e.extversion from pg_catalog.pg_extension e where e.extname = 'pgmq') as extension,
         pg_catalog.to_regprocedure('rowcall_queue.notify_waiting()') is not null as helpers,
         pg_catalog.to_regnamespace('pgmq_public') is not null as data_api,
         pg_catalog.to_regprocedure('realtime.send(jsonb,text,text,boolean)') is not null as send,
         pg_catalog.to_regclass('realtime.messages') as messages
)
select 'pgmq'::text as "check",
       case when not pgmq then 'error' else 'ok' end as severity,
       case when not pgmq then 'pgmq is not installed: run `rowcall setup` or `create extension pgmq`'
            when extension is null then 'pgmq is installed as SQL, not as an extension'
            else 'the extension pgmq ' || extension || ' is installed' end as message
  from has
union all
select 'wake_helpers', case when helpers then 'ok' else 'warning' end,
       case when helpers then 'the wake-up helpers are installed'
            else 'the wake-up helpers are missing, so workers poll: run `rowcall setup`' end
  from has
union all
select 'data_api', case when data_api then 'ok' else 'warning' end,
       case when data_api then 'schema pgmq_public is there; the API must expose it (`[api] schemas` in supabase/config.toml)'
            else 'schema pgmq_public is missing: supabase-js and AIMQ cannot reach the queues' end
  from has
union all
select 'realtime_send', case when send then 'ok' else 'warning' end,
       case when send then 'realtime.send is there'
            else 'realtime.send is missing: broadcasts reach nobody, only workers with a database URL are woken' end
  from has
union all
select 'realtime_partition',
       case when exists (
         select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
          where i.inhparent = has.messages
            and c.relname = 'messages_' || pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.now()), 'YYYY_MM_DD'))
         then 'ok' else 'warning' end,
       'realtime.messages needs a partition for today or broadcasts are lost with a warning only; Realtime makes it when a client connects'
  from has
 where messages is not null
   and exists (select from pg_catalog.pg_partitioned_table p where p.partrelid = has.messages)
union all
select 'realtime_replication',
       case when exists (select from pg_catalog.pg_replication_slots s
                          where s.active and s.plugin = 'pgoutput' and s.database = pg_catalog.current_database())
         then 'ok' else 'warning' end,
       'Realtime reads broadcasts through a replication slot that exists only while clients are connected; what is sent without it is lost'
  from has where send
union all
select 'wal_level', case when pg_catalog.current_setting('wal_level') = 'logical' then 'ok' else 'warning' end,
       'wal_level is ' || pg_catalog.current_setting('wal_level') || '; broadcasts need logical'
  from has where send
