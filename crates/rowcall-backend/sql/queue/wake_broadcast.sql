-- Trigger function: broadcasts through realtime.send that a queue got messages. After insert, for each statement, with the
-- new rows as `new_rows`; tg_argv = channel, event, queue, private, gate in ms (0: every statement), per row.
--
-- Contract: the insert never fails because of it: without realtime.send, without a partition for today or with row level
-- security in the way there is a WARNING and no broadcast. One broadcast per statement, {queue, job_id, last_job_id, count,
-- visible_at, visible_in}, or one per message, {queue, job_id, visible_at, visible_in}. AIMQ reads `queue` and `job_id` of these.
--
-- The gated mode drops what comes within the gate after a broadcast; who listens polls once more after that time (gate_ms in
-- the payload says how long).
create or replace function rowcall_queue.broadcast_sent() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  gate_ms integer := tg_argv[4]::integer;
  passed timestamptz;
begin
  begin
    if gate_ms > 0 and pg_catalog.current_setting('transaction_isolation') = 'read committed' then
      select g.last into passed from rowcall_queue.broadcast_gate g where g.queue = tg_argv[2];
      if not found then
        insert into rowcall_queue.broadcast_gate (queue, last) values (tg_argv[2], pg_catalog.clock_timestamp())
          on conflict do nothing;
      -- Nearly every send of a busy queue ends here.
      elsif passed > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => gate_ms / 1000.0) then
        return null;
      else
        -- Of several that find it open one broadcasts; nobody waits for it.
        update rowcall_queue.broadcast_gate g set last = pg_catalog.clock_timestamp()
         where g.ctid = any (array(
           select l.ctid from rowcall_queue.broadcast_gate l
            where l.queue = tg_argv[2]
              and l.last <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => gate_ms / 1000.0)
              for update skip locked));
        if not found then
          return null;
        end if;
      end if;
    end if;
    if tg_argv[5]::boolean then
      perform realtime.send(
        pg_catalog.jsonb_build_object('queue', tg_argv[2], 'job_id', n.msg_id, 'visible_at', n.vt,
          'visible_in', greatest(extract(epoch from n.vt - pg_catalog.clock_timestamp()), 0), 'gate_ms', gate_ms),
        tg_argv[1], tg_argv[0], tg_argv[3]::boolean)
        from new_rows n order by n.msg_id;
      return null;
    end if;
    perform realtime.send(
        pg_catalog.jsonb_build_object('queue', tg_argv[2], 'job_id', pg_catalog.min(n.msg_id),
          'last_job_id', pg_catalog.max(n.msg_id), 'count', pg_catalog.count(*), 'visible_at', pg_catalog.min(n.vt),
          'visible_in', greatest(extract(epoch from pg_catalog.min(n.vt) - pg_catalog.clock_timestamp()), 0),
          'gate_ms', gate_ms),
        tg_argv[1], tg_argv[0], tg_argv[3]::boolean)
      from new_rows n having pg_catalog.count(*) > 0;
  exception when others then
    raise warning 'rowcall: queue % broadcasts nothing: %', tg_argv[2], sqlerrm;
  end;
  return null;
end
$$;
revoke all on function rowcall_queue.broadcast_sent() from public;
