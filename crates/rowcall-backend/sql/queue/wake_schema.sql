-- The schema of queue wake-ups and its two gates. Idempotent. Needs CREATE on the database.
--
-- `waiting` is the gate of direct wake-ups (LISTEN): `armed` says that some worker sleeps and wants to be told. Workers arm
-- it before they look for the last time, senders disarm it when they notify. A missing row counts as armed, so the table
-- may be unlogged: after a crash it is empty, and every sender notifies until its row is back.
--
-- `broadcast_gate` remembers when a queue last broadcast through realtime.send, for the gated mode. Unlogged for the same
-- reason: without a row a sender broadcasts.
create schema if not exists rowcall_queue;

create unlogged table if not exists rowcall_queue.waiting (
  queue text primary key,
  armed boolean not null default false
) with (fillfactor = 40, autovacuum_vacuum_threshold = 1000);

create unlogged table if not exists rowcall_queue.broadcast_gate (
  queue text primary key,
  last timestamptz not null default '-infinity'
) with (fillfactor = 40, autovacuum_vacuum_threshold = 1000);
