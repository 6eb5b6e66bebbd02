-- Wakes idle daemons when work arrives, without a NOTIFY in every writing transaction.
--
-- A notifying commit holds a lock of the whole database across its flush, so that writers no longer share flushes. Therefore
-- a writer notifies only while some daemon waits: a busy one, which polls anyway, closes its gate by moving `quiet_until` a
-- short time ahead, again and again. A daemon that dies leaves a gate that opens by itself, which costs notifications and
-- never loses one; after a day without a sign of life it no longer counts. What is committed while a gate is closed is found
-- by the look the daemon takes after opening it; what was written then and committed only later, in a long transaction, by
-- its regular look.
--
-- Sessions of daemons set rowcall.quiet, so that their own claims and settlements wake nobody.
create table rowcall.listeners (
  name text primary key,
  quiet_until timestamptz not null default '-infinity',
  seen_at timestamptz not null default now()
);
comment on table rowcall.listeners is 'One row for each daemon that listens for rowcall_wake.';

create function rowcall.wake() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if exists (
    select from rowcall.listeners
     where quiet_until <= pg_catalog.clock_timestamp() and seen_at > now() - interval '1 day'
  ) then
    perform pg_catalog.pg_notify('rowcall_wake', '');
  end if;
  return null;
end
$$;

-- An update by somebody else counts when it leaves something to do: a client that retries, releases or fails a task.
create function rowcall.wake_on_update() returns trigger
language plpgsql security definer set search_path = '' set enable_seqscan = off as $$
begin
  if exists (
      select from rowcall.listeners
       where quiet_until <= pg_catalog.clock_timestamp() and seen_at > now() - interval '1 day'
    )
    and (exists (select from public.rtx_activities where coalesce(status, 'pending') = 'pending')
      or exists (select from public.rtx_activities where status = 'failed')) then
    perform pg_catalog.pg_notify('rowcall_wake', '');
  end if;
  return null;
end
$$;

create trigger rowcall_wake_insert after insert on public.rtx_activities
  for each statement when (pg_catalog.current_setting('rowcall.quiet', true) is distinct from 'on')
  execute function rowcall.wake();
create trigger rowcall_wake_update after update of status on public.rtx_activities
  for each statement when (pg_catalog.current_setting('rowcall.quiet', true) is distinct from 'on')
  execute function rowcall.wake_on_update();
