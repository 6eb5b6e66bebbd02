-- Switches wake-ups of a queue on and off and says how they stand. Every function finds the queue in pgmq.meta, whatever the
-- case it is asked in, and works on unlogged and partitioned queues; an unknown queue raises undefined_table (42P01).

-- The queue's name as it was created, and its table. pgmq lower-cases table names.
create or replace function rowcall_queue.find(queue_name text, out logical text, out relation regclass)
language plpgsql stable set search_path = ''
as $$
begin
  select m.queue_name, pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || m.queue_name)))
    into logical, relation
    from pgmq.meta m
   where pg_catalog.lower(m.queue_name) = pg_catalog.lower(find.queue_name)
   order by m.queue_name = find.queue_name desc
   limit 1;
  if relation is null then
    raise undefined_table using message = pg_catalog.format('queue "%s" does not exist', queue_name);
  end if;
end
$$;

-- Direct wake-ups: the trigger `rowcall_wake`, exactly one however often this is called.
create or replace function rowcall_queue.enable_wake(queue_name text) returns void
language plpgsql set search_path = ''
as $$
declare
  queue record;
begin
  queue := rowcall_queue.find(queue_name);
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgmq.queue_' || queue.logical));
  insert into rowcall_queue.waiting (queue) values (queue.logical) on conflict do nothing;
  if exists (
    select from pg_catalog.pg_trigger t
     where t.tgrelid = queue.relation and t.tgname = 'rowcall_wake' and t.tgnargs = 1
       and t.tgfoid = 'rowcall_queue.notify_waiting()'::regprocedure
       and pg_catalog.encode(t.tgargs, 'escape') = pg_catalog.encode(pg_catalog.convert_to(queue.logical, 'UTF8'), 'escape') || '\000'
  ) then
    return; -- creating it again would lock the queue against its senders
  end if;
  execute pg_catalog.format('drop trigger if exists rowcall_wake on %s', queue.relation);
  execute pg_catalog.format(
    'create trigger rowcall_wake after insert on %s referencing new table as new_rows for each statement '
    'execute function rowcall_queue.notify_waiting(%L)', queue.relation, queue.logical);
end
$$;

create or replace function rowcall_queue.disable_wake(queue_name text) returns void
language plpgsql set search_path = ''
as $$
declare
  queue record;
begin
  queue := rowcall_queue.find(queue_name);
  execute pg_catalog.format('drop trigger if exists rowcall_wake on %s', queue.relation);
  delete from rowcall_queue.waiting w where w.queue = queue.logical;
end
$$;

-- Drops the broadcast triggers of a queue: ours and those AIMQ made, whose names begin alike.
create or replace function rowcall_queue.disable_broadcast(queue_name text) returns boolean
language plpgsql set search_path = ''
as $$
declare
  queue record;
  old name;
  dropped boolean := false;
begin
  queue := rowcall_queue.find(queue_name);
  for old in
    select t.tgname from pg_catalog.pg_trigger t
     where t.tgrelid = queue.relation and not t.tgisinternal and t.tgparentid = 0
       and pg_catalog.starts_with(t.tgname::text, 'aimq_notify_')
  loop
    execute pg_catalog.format('drop trigger %I on %s', old, queue.relation);
    dropped := true;
  end loop;
  delete from rowcall_queue.broadcast_gate g where g.queue = queue.logical;
  return dropped;
end
$$;

-- Broadcasts: the trigger `aimq_notify_<queue>`, so that AIMQ's own functions replace it instead of adding a second one.
-- `gate_ms` 0 broadcasts every statement.
create or replace function rowcall_queue.enable_broadcast(
  queue_name text, channel text, event text, private boolean default false, gate_ms integer default 0,
  per_row boolean default false
) returns void
language plpgsql set search_path = ''
as $$
declare
  queue record;
begin
  queue := rowcall_queue.find(queue_name);
  if coalesce(channel, '') = '' or coalesce(event, '') = '' or gate_ms is null or gate_ms not between 0 and 60000 then
    raise invalid_parameter_value using message =
      'a broadcast needs a channel, an event, and a gate of 0 to 60000 milliseconds';
  end if;
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('pgmq.queue_' || queue.logical));
  perform rowcall_queue.disable_broadcast(queue.logical);
  execute pg_catalog.format(
    'create trigger %I after insert on %s referencing new table as new_rows for each statement '
    'execute function rowcall_queue.broadcast_sent(%L, %L, %L, %L, %L, %L)',
    'aimq_notify_' || queue.logical, queue.relation, channel, event, queue.logical, private, gate_ms, per_row);
end
$$;

-- How the wake-ups of every queue stand. `foreign_trigger` is true for a broadcast trigger that AIMQ made.
create or replace function rowcall_queue.wake_status() returns table (
  queue_name text, direct boolean, broadcast boolean, foreign_trigger boolean, channel text, event text, private boolean,
  gate_ms integer, per_row boolean
)
language sql stable set search_path = ''
as $$
  select m.queue_name::text, d.direct, b.args is not null, coalesce(b.is_foreign, false), b.args[1], b.args[2],
         case when b.args is not null then coalesce(b.args[4]::boolean, false) end,
         case when b.args is not null then coalesce(b.args[5]::integer, 0) end,
         case when b.args is not null then coalesce(b.args[6]::boolean, b.is_foreign) end
    from pgmq.meta m
    cross join lateral (
      select pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || m.queue_name))) as relation
    ) q
    cross join lateral (
      select exists (
        select from pg_catalog.pg_trigger t where t.tgrelid = q.relation and t.tgname = 'rowcall_wake' and t.tgenabled <> 'D'
      ) as direct
    ) d
    left join lateral (
      select t.tgfoid is distinct from pg_catalog.to_regprocedure('rowcall_queue.broadcast_sent()') as is_foreign,
             array(
               select pg_catalog.convert_from(pg_catalog.decode(a.part, 'escape'), 'UTF8')
                 from pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.encode(t.tgargs, 'escape'), '\000'))
                      with ordinality a(part, at)
                where a.at <= t.tgnargs order by a.at
             ) as args
        from pg_catalog.pg_trigger t
       where t.tgrelid = q.relation and not t.tgisinternal and t.tgenabled <> 'D'
         and pg_catalog.starts_with(t.tgname::text, 'aimq_notify_')
       limit 1
    ) b on true
   order by m.queue_name
$$;

revoke all on function rowcall_queue.find(text), rowcall_queue.enable_wake(text), rowcall_queue.disable_wake(text),
  rowcall_queue.enable_broadcast(text, text, text, boolean, integer, boolean), rowcall_queue.disable_broadcast(text),
  rowcall_queue.wake_status() from public;
