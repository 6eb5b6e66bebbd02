-- What workers need that Supabase's own pgmq_public lacks, for workers that have a project's URL and a key and no connection to
-- the database: leases that are renewed, fences, dead letters and the end of their message in one transaction, and the time of
-- the next message. Invoker's rights: grants and policies on pgmq.q_* and pgmq.a_* decide, as for the six functions.
--
-- rowcall_work(steps) carries out steps in order, in one transaction, and answers with one row per message it claimed (kind 0),
-- gave up (1) or found to be still the caller's (2). A lease is [msg_id, read_ct]: it is the caller's while nobody has read the
-- message since. Steps (`do`):
--   claim    queues [{queue, name, vt, pop, cap, order, tries, letters, archive}], max, newest, only
--   done     queue, name, archive, leases [[id, read_ct]]
--   dead     queue, name, archive, letters, leases [[id, read_ct, error]]
--   retry    queue, name, leases [[id, read_ct, seconds or null]]
--   renew, check, release   queue, name, seconds, leases
--   tell     name: wakes workers that listen to the database
-- `queue` is a number of the caller's, which comes back. A queue that is not there is error 42P01.
create or replace function pgmq_public.rowcall_end(
  place integer, queue_name text, leases jsonb, letters text, archive boolean, error_type text, answer integer
) returns table (kind smallint, queue integer, msg_id bigint, read_ct integer, enqueued_at timestamptz, message jsonb,
                 headers jsonb, waited double precision)
language plpgsql set search_path = ''
as $$
declare
  source text := pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || $2));
  target text := pg_catalog.format('pgmq.%I', pg_catalog.lower('a_' || $2));
  columns text;
  parts text := '';
begin
  if $5 then
    select pg_catalog.string_agg(pg_catalog.quote_ident(q.attname), ', ' order by q.attnum) into columns
      from pg_catalog.pg_attribute q
      join pg_catalog.pg_attribute a on a.attname = q.attname and a.attnum > 0 and not a.attisdropped
     where q.attrelid = source::regclass and a.attrelid = target::regclass and q.attnum > 0 and not q.attisdropped;
    parts := pg_catalog.format(', kept as (insert into %s (%s) select %s from gone)', target, columns, columns);
  end if;
  if $4 is not null then
    parts := parts || pg_catalog.format(
      ', letter as (insert into pgmq.%I (vt, message) select pg_catalog.clock_timestamp(), pg_catalog.jsonb_build_object('
      '''original_queue'', $2, ''original_job_id'', msg_id, ''attempt_count'', read_ct, ''error_type'', $3, '
      '''error_message'', error, ''timestamp'', pg_catalog.to_char(pg_catalog.clock_timestamp() at time zone ''utc'', '
      '''YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"''), ''job_data'', message) from gone)', pg_catalog.lower('q_' || $4));
  end if;
  return query execute pg_catalog.format(
    'with l as (select (e ->> 0)::bigint as id, (e ->> 1)::int as attempt, e ->> 2 as error '
    'from pg_catalog.jsonb_array_elements($1) e), '
    'gone as (delete from %s m using l where m.msg_id = l.id and m.read_ct = l.attempt returning m.*, l.error)%s '
    'select $4::smallint, $5::int, msg_id, read_ct, null::timestamptz, null::jsonb, null::jsonb, null::float8 from gone',
    source, parts)
    using $3, $2, $6, $7, $1;
end
$$;

create or replace function pgmq_public.rowcall_claim(claim jsonb)
returns table (kind smallint, queue integer, msg_id bigint, read_ct integer, enqueued_at timestamptz, message jsonb,
               headers jsonb, waited double precision)
language plpgsql set search_path = ''
as $$
declare
  part jsonb;
  source text;
  place integer;
  free integer := (claim ->> 'max')::integer;
  room integer;
  got bigint;
  stuck jsonb;
  picked text;
  shown text := 'm.msg_id, m.read_ct, m.enqueued_at, m.message, nullif(pg_catalog.to_jsonb(m) -> ''headers'', ''null''), '
                'extract(epoch from pg_catalog.clock_timestamp() - p.visible)::float8';
begin
  for part in select e from pg_catalog.jsonb_array_elements(claim -> 'queues') e loop
    room := least(free, (part ->> 'cap')::integer);
    continue when room <= 0;
    place := (part ->> 'queue')::integer;
    source := pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || (part ->> 'name')));
    if part ->> 'order' is not null and claim ->> 'only' is null then
      if part ->> 'order' not in ('read_grouped', 'read_grouped_rr', 'read_grouped_head') then
        raise exception 'there is no order %', part ->> 'order';
      end if;
      return query execute pg_catalog.format(
        'select 0::smallint, $1, m.msg_id, m.read_ct, m.enqueued_at, m.message, m.headers, null::float8 '
        'from pgmq.%I($2, $3, $4) m', part ->> 'order')
        using place, part ->> 'name', pg_catalog.ceil((part ->> 'vt')::float8)::integer, room;
      get diagnostics got = row_count;
      free := free - got;
      continue;
    end if;
    -- $1 is the room, $2 the attempts, $3 the one message that is wanted.
    picked := 'select msg_id, vt as visible, read_ct from ' || source || ' where vt <= pg_catalog.clock_timestamp() '
      'and ($3::bigint is null or msg_id = $3) and ($2::int is null or read_ct ';
    if part ->> 'tries' is not null then
      execute pg_catalog.format(
        'select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(msg_id, read_ct, %L::text)) from (%s '
        'order by msg_id limit $1 for update skip locked) p',
        'no attempt of ' || (part ->> 'tries') || ' ended', picked || '>= $2)')
        into stuck using room, (part ->> 'tries')::integer, (claim ->> 'only')::bigint;
      if stuck is not null then
        return query select * from pgmq_public.rowcall_end(place, part ->> 'name', stuck, part ->> 'letters',
          (part ->> 'archive')::boolean, 'AttemptsExhausted', 1);
      end if;
    end if;
    picked := picked || '< $2) order by msg_id ' || case when (claim ->> 'newest')::boolean then 'desc' else 'asc' end
      || ' limit $1 for update skip locked';
    if (part ->> 'pop')::boolean then
      return query execute pg_catalog.format(
        'with p as (%s), m as (delete from %s m using p where m.msg_id = p.msg_id returning m.*) '
        'select 0::smallint, $4, m.msg_id, m.read_ct + 1, m.enqueued_at, m.message, '
        'nullif(pg_catalog.to_jsonb(m) -> ''headers'', ''null''), '
        'extract(epoch from pg_catalog.clock_timestamp() - m.vt)::float8 from m', picked, source)
        using room, (part ->> 'tries')::integer, (claim ->> 'only')::bigint, place;
    else
      return query execute pg_catalog.format(
        'with p as (%s) update %s m set vt = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $5), '
        'read_ct = m.read_ct + 1%s from p where m.msg_id = p.msg_id returning 0::smallint, $4, %s', picked, source,
        case when exists (select from pg_catalog.pg_attribute a where a.attrelid = source::regclass
                             and a.attname = 'last_read_at' and not a.attisdropped)
             then ', last_read_at = pg_catalog.clock_timestamp()' else '' end, shown)
        using room, (part ->> 'tries')::integer, (claim ->> 'only')::bigint, place, (part ->> 'vt')::float8;
    end if;
    get diagnostics got = row_count;
    free := free - got;
  end loop;
end
$$;

create or replace function pgmq_public.rowcall_work(steps jsonb)
returns table (kind smallint, queue integer, msg_id bigint, read_ct integer, enqueued_at timestamptz, message jsonb,
               headers jsonb, waited double precision)
language plpgsql set search_path = ''
as $$
declare
  step jsonb;
  change text;
  source text;
begin
  for step in select e from pg_catalog.jsonb_array_elements(steps) e loop
    if step ->> 'do' = 'claim' then
      return query select * from pgmq_public.rowcall_claim(step);
    elsif step ->> 'do' in ('done', 'dead') then
      return query select * from pgmq_public.rowcall_end((step ->> 'queue')::integer, step ->> 'name', step -> 'leases',
        step ->> 'letters', (step ->> 'archive')::boolean, 'AgentError', 2);
    elsif step ->> 'do' = 'tell' then
      perform pg_catalog.pg_notify('rowcall_queue', pg_catalog.jsonb_build_object('queue', step ->> 'name')::text);
    else
      source := pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || (step ->> 'name')));
      change := case step ->> 'do'
        when 'retry' then 'vt = coalesce(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => l.delay), m.vt)'
        when 'renew' then 'vt = greatest(m.vt, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => s.seconds))'
        when 'release' then 'vt = pg_catalog.clock_timestamp(), read_ct = m.read_ct - 1'
        when 'check' then '' end;
      if change is null then
        raise exception 'there is no step %', step ->> 'do';
      end if;
      -- Every change names $3, so that the statement always has three parameters.
      return query execute pg_catalog.format(
        'with s as (select $3::float8 as seconds), '
        'l as (select (e ->> 0)::bigint as id, (e ->> 1)::int as attempt, (e ->> 2)::float8 as delay '
        'from pg_catalog.jsonb_array_elements($1) e), m as (%s m %s l, s where m.msg_id = l.id and m.read_ct = l.attempt %s) '
        'select 2::smallint, $2, m.msg_id, m.attempt, null::timestamptz, null::jsonb, null::jsonb, null::float8 from m',
        case change when '' then 'select m.msg_id, l.attempt from ' || source else 'update ' || source end,
        case change when '' then ',' else 'set ' || change || ' from' end,
        case change when '' then '' else 'returning m.msg_id, l.attempt' end)
        using step -> 'leases', (step ->> 'queue')::integer, (step ->> 'seconds')::float8;
    end if;
  end loop;
end
$$;

-- Whether queues are there, whether they have archives, which orders this pgmq reads in, whether messages are visible, and in how
-- many seconds the next one is. One row per name, in order; nothing changes.
create or replace function pgmq_public.rowcall_due(queue_names text[])
returns table (there boolean, archive boolean, orders text[], ready boolean, next_in double precision)
language plpgsql stable set search_path = ''
as $$
declare
  name text;
begin
  select pg_catalog.array_agg(distinct p.proname::text) into orders
    from pg_catalog.pg_proc p
   where p.pronamespace = pg_catalog.to_regnamespace('pgmq')
     and p.proname in ('read_grouped', 'read_grouped_rr', 'read_grouped_head');
  foreach name in array queue_names loop
    there := pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || name))) is not null;
    archive := pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.lower('a_' || name))) is not null;
    ready := false;
    next_in := null;
    if there then
      execute pg_catalog.format(
        'select exists (select from %1$s where vt <= pg_catalog.statement_timestamp()), '
        '(select extract(epoch from min(vt) - pg_catalog.clock_timestamp())::float8 from %1$s '
        'where vt > pg_catalog.statement_timestamp())',
        pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || name))) into ready, next_in;
    end if;
    return next;
  end loop;
end
$$;

-- Messages of a queue, the oldest first, invisible ones included; nothing changes.
create or replace function pgmq_public.rowcall_peek(queue_name text, n integer)
returns table (msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb)
language plpgsql stable set search_path = ''
as $$
begin
  return query execute pg_catalog.format(
    'select m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, nullif(pg_catalog.to_jsonb(m) -> ''headers'', ''null'') '
    'from pgmq.%I m order by m.msg_id limit $1', pg_catalog.lower('q_' || queue_name)) using least(n, 1000);
end
$$;
