-- Wakes idle daemons when work arrives, without a NOTIFY in every writing transaction.
--
-- A notifying commit holds a lock of the whole database across its flush, so that writers no longer share flushes. Therefore
-- a writer notifies only while some daemon waits: a busy one, which polls anyway, closes its gate by moving `quiet_until` a
-- short time ahead, again and again. A daemon that dies leaves a gate that opens by itself, which costs notifications and
-- never loses one; after a day without a sign of life it no longer counts. What is committed while a gate is closed is found
-- by the look the daemon takes after opening it; what was written then and committed only later, in a long transaction, by
-- its regular look.
--
-- Writers do not look at the table of listeners: the earliest of their times stands in a sequence, in milliseconds since 1970,
-- because that is read in a fraction of the time of a query, and every insert pays for it.
--
-- Sessions of daemons set rowcall.quiet, so that their own claims and settlements wake nobody. The triggers ask for it in their
-- functions: a WHEN condition would be compiled anew for every statement.
create table rowcall.listeners (
  name text primary key,
  quiet_until timestamptz not null default '-infinity',
  seen_at timestamptz not null default now()
);
comment on table rowcall.listeners is 'One row for each daemon that listens for rowcall_wake.';

create sequence rowcall.gate minvalue 0;
select setval('rowcall.gate', 9223372036854775807);
comment on sequence rowcall.gate is 'Until when nobody needs to be notified, in milliseconds since 1970; the largest number when nobody listens.';

-- Moves the gate to the earliest time of the living listeners. The lock is held until the caller commits, so that whoever comes
-- next sees what is written here.
create function rowcall.move_gate() returns void
language sql set search_path = '' as $$
  select pg_catalog.setval('rowcall.gate', coalesce(
    (select (greatest(pg_catalog.date_part('epoch', min(quiet_until)), 0) * 1000)::bigint
       from rowcall.listeners where seen_at > now() - interval '1 day'),
    9223372036854775807))
$$;

-- Registers a listener or shows that it lives. It is to be left alone for so many seconds; null: it waits for notifications.
create function rowcall.listen(listener text, quiet_for double precision) returns void
language plpgsql set search_path = '' as $$
begin
  perform pg_catalog.pg_advisory_xact_lock(8245937404367564649);
  insert into rowcall.listeners as l (name, quiet_until)
  values (listener, coalesce(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => quiet_for), '-infinity'))
  on conflict (name) do update set quiet_until = excluded.quiet_until, seen_at = now();
  perform rowcall.move_gate();
end
$$;

-- Takes a listener off the list, and those that were not seen for a week.
create function rowcall.unlisten(listener text) returns void
language plpgsql set search_path = '' as $$
begin
  perform pg_catalog.pg_advisory_xact_lock(8245937404367564649);
  delete from rowcall.listeners where name = listener or seen_at < now() - interval '7 days';
  perform rowcall.move_gate();
end
$$;

create function rowcall.wake() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if pg_catalog.pg_sequence_last_value('rowcall.gate') <= pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000
    and pg_catalog.current_setting('rowcall.quiet', true) is distinct from 'on' then
    perform pg_catalog.pg_notify('rowcall_wake', '');
  end if;
  return null;
end
$$;

-- An update by somebody else counts when it leaves something to do: a client that retries, releases or fails a task.
create function rowcall.wake_on_update() returns trigger
language plpgsql security definer set search_path = '' set enable_seqscan = off as $$
begin
  if pg_catalog.pg_sequence_last_value('rowcall.gate') <= pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000
    and pg_catalog.current_setting('rowcall.quiet', true) is distinct from 'on'
    and (exists (select from public.rtx_activities where coalesce(status, 'pending') = 'pending')
      or exists (select from public.rtx_activities where status = 'failed')) then
    perform pg_catalog.pg_notify('rowcall_wake', '');
  end if;
  return null;
end
$$;

create trigger rowcall_wake_insert after insert on public.rtx_activities
  for each statement execute function rowcall.wake();
create trigger rowcall_wake_update after update of status on public.rtx_activities
  for each statement execute function rowcall.wake_on_update();
