-- Schema pgmq_public: the six functions that supabase-js, supabase-py and AIMQ call through the Data API, with Supabase's
-- names and arguments. Functions that are there already (Supabase Studio makes them) stay as they are.
--
-- They return tables of their own instead of setof pgmq.message_record: pgmq 1.10 drops and remakes that type, and functions
-- that return it go with it. Invoker's rights: who may do what is decided by grants and policies on pgmq.q_* and pgmq.a_*.
create schema if not exists pgmq_public;

do $do$
declare
  definition text;
begin
  foreach definition in array array[
    $f$ pgmq_public.send(queue_name text, message jsonb, sleep_seconds integer default 0) returns setof bigint
      language sql set search_path = ''
      as $$ select * from pgmq.send(queue_name => queue_name, msg => message, delay => sleep_seconds) $$ $f$,
    $f$ pgmq_public.send_batch(queue_name text, messages jsonb[], sleep_seconds integer default 0) returns setof bigint
      language sql set search_path = ''
      as $$ select * from pgmq.send_batch(queue_name => queue_name, msgs => messages, delay => sleep_seconds) $$ $f$,
    $f$ pgmq_public.read(queue_name text, sleep_seconds integer, n integer)
      returns table (msg_id bigint, read_ct integer, enqueued_at timestamptz, last_read_at timestamptz, vt timestamptz,
                     message jsonb, headers jsonb)
      language sql set search_path = ''
      as $$ select m.msg_id, m.read_ct, m.enqueued_at, (pg_catalog.to_jsonb(m) ->> 'last_read_at')::timestamptz, m.vt,
                   m.message, nullif(pg_catalog.to_jsonb(m) -> 'headers', 'null')
              from pgmq.read(queue_name => queue_name, vt => sleep_seconds, qty => n) m $$ $f$,
    $f$ pgmq_public.pop(queue_name text)
      returns table (msg_id bigint, read_ct integer, enqueued_at timestamptz, last_read_at timestamptz, vt timestamptz,
                     message jsonb, headers jsonb)
      language sql set search_path = ''
      as $$ select m.msg_id, m.read_ct, m.enqueued_at, (pg_catalog.to_jsonb(m) ->> 'last_read_at')::timestamptz, m.vt,
                   m.message, nullif(pg_catalog.to_jsonb(m) -> 'headers', 'null')
              from pgmq.pop(queue_name => queue_name) m $$ $f$,
    $f$ pgmq_public.archive(queue_name text, message_id bigint) returns boolean
      language sql set search_path = ''
      as $$ select pgmq.archive(queue_name => queue_name, msg_id => message_id) $$ $f$,
    $f$ pgmq_public.delete(queue_name text, message_id bigint) returns boolean
      language sql set search_path = ''
      as $$ select pgmq.delete(queue_name => queue_name, msg_id => message_id) $$ $f$
  ] loop
    begin
      execute 'create function ' || definition;
    exception when duplicate_function then
      null; -- somebody else's, with the same arguments
    end;
  end loop;
end
$do$;
