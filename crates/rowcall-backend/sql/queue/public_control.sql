-- Queue administration through the Data API, with AIMQ's names, arguments and answers (pgmq_public.create_queue, list_queues,
-- enable_queue_realtime, disable_queue_realtime), and the names of the realtime streaming design (setup_realtime_triggers,
-- create_pgmq_realtime_trigger; clients call those without naming a schema, so they are in `public` too).
--
-- They make tables and triggers, so they run with their owner's rights, and only service_role may call them. A failure is an
-- answer, {success: false, error}, never an exception.
create or replace function pgmq_public.enable_queue_realtime(
  queue_name text, channel_name text default 'aimq:jobs', event_name text default 'job_enqueued'
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  perform rowcall_queue.enable_broadcast(queue_name, channel_name, event_name);
  return pg_catalog.jsonb_build_object('success', true, 'message', 'Realtime enabled', 'queue_name', queue_name,
    'channel', channel_name, 'event', event_name);
exception when others then
  return pg_catalog.jsonb_build_object('success', false, 'error', sqlerrm);
end
$$;

create or replace function pgmq_public.disable_queue_realtime(queue_name text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  perform rowcall_queue.disable_broadcast(queue_name);
  return pg_catalog.jsonb_build_object('success', true, 'message', 'Realtime disabled', 'queue_name', queue_name);
exception when others then
  return pg_catalog.jsonb_build_object('success', false, 'error', sqlerrm);
end
$$;

-- Row level security goes on: through the Data API nobody but service_role reaches a new queue until there are policies.
create or replace function pgmq_public.create_queue(
  queue_name text, with_realtime boolean default true, channel_name text default 'aimq:jobs',
  event_name text default 'job_enqueued'
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  perform pgmq.create(queue_name);
  execute pg_catalog.format('alter table pgmq.%I enable row level security', pg_catalog.lower('q_' || queue_name));
  execute pg_catalog.format('alter table pgmq.%I enable row level security', pg_catalog.lower('a_' || queue_name));
  perform rowcall_queue.enable_wake(queue_name);
  if with_realtime then
    perform rowcall_queue.enable_broadcast(queue_name, channel_name, event_name);
  end if;
  return pg_catalog.jsonb_build_object('success', true, 'queue_name', queue_name, 'realtime_enabled', with_realtime,
    'channel', case when with_realtime then channel_name end, 'event', case when with_realtime then event_name end);
exception when others then
  return pg_catalog.jsonb_build_object('success', false, 'error', sqlerrm);
end
$$;

create or replace function pgmq_public.list_queues() returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  queues jsonb;
begin
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
           'queue_name', s.queue_name, 'realtime_enabled', s.broadcast, 'queue_length', m.queue_length,
           'newest_msg_age_sec', m.newest_msg_age_sec, 'oldest_msg_age_sec', m.oldest_msg_age_sec,
           'total_messages', m.total_messages, 'scrape_time', m.scrape_time) order by s.queue_name), '[]')
    into queues
    from rowcall_queue.wake_status() s
    cross join lateral pgmq.metrics(s.queue_name) m;
  return pg_catalog.jsonb_build_object('success', true, 'queues', queues);
exception when others then
  return pg_catalog.jsonb_build_object('success', false, 'error', sqlerrm);
end
$$;

create or replace function pgmq_public.create_pgmq_realtime_trigger(
  queue_name text, channel text default 'aimq:jobs', event text default 'job_enqueued'
) returns jsonb
language sql security definer set search_path = ''
as $$ select pgmq_public.enable_queue_realtime(queue_name, channel, event) $$;

create or replace function pgmq_public.setup_realtime_triggers(queue_name text) returns jsonb
language sql security definer set search_path = ''
as $$ select pgmq_public.enable_queue_realtime(queue_name) $$;

create or replace function public.create_pgmq_realtime_trigger(
  queue_name text, channel text default 'aimq:jobs', event text default 'job_enqueued'
) returns jsonb
language sql security definer set search_path = ''
as $$ select pgmq_public.enable_queue_realtime(queue_name, channel, event) $$;

create or replace function public.setup_realtime_triggers(queue_name text) returns jsonb
language sql security definer set search_path = ''
as $$ select pgmq_public.enable_queue_realtime(queue_name) $$;
