-- Trigger function: tells sleeping workers that a queue got messages. After insert, for each statement, with the new rows
-- as `new_rows`; tg_argv = queue.
--
-- Contract: the insert never fails and never waits because of it; one NOTIFY on channel `rowcall_queue` per statement while
-- the gate is armed, none while it is not. Payload: {queue, job_id, last_job_id, count, visible_at, visible_in
-- (seconds)}.
--
-- Why nothing is lost although senders skip: a worker arms, commits, and only then looks at the queue; it looks again until
-- every transaction that was under way when it armed has ended. A sender that read `armed = false` is one of those, or its
-- messages were there already. Only read committed makes the second half true, so other isolation levels always notify.
create or replace function rowcall_queue.notify_waiting() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  gate record;
  fresh boolean := pg_catalog.current_setting('transaction_isolation') = 'read committed';
begin
  begin
    if fresh then
      select w.armed into gate from rowcall_queue.waiting w where w.queue = tg_argv[0];
      if found and not gate.armed then
        return null;
      end if;
    end if;
    perform pg_catalog.pg_notify('rowcall_queue', pg_catalog.json_build_object(
        'queue', tg_argv[0], 'job_id', pg_catalog.min(n.msg_id), 'last_job_id', pg_catalog.max(n.msg_id),
        'count', pg_catalog.count(*), 'visible_at', pg_catalog.min(n.vt),
        'visible_in', greatest(extract(epoch from pg_catalog.min(n.vt) - pg_catalog.clock_timestamp()), 0))::text)
      from new_rows n having pg_catalog.count(*) > 0;
    if not found then
      return null;
    end if;
    if fresh then
      -- Whoever holds the row is disarming it too, or arms it and will look afterwards: no need to wait.
      update rowcall_queue.waiting w set armed = false
       where w.ctid = any (array(
         select l.ctid from rowcall_queue.waiting l where l.queue = tg_argv[0] and l.armed for update skip locked));
      if gate is null then
        insert into rowcall_queue.waiting (queue) values (tg_argv[0]) on conflict do nothing;
      end if;
    end if;
  exception when others then
    raise warning 'rowcall: queue % sends no wake-up: %', tg_argv[0], sqlerrm;
  end;
  return null;
end
$$;
revoke all on function rowcall_queue.notify_waiting() from public;
