-- public.rtx_activities: the table of compatible mode, with every published column and ours.
--
-- Additive on a table that RealTimeX made: missing columns are added, nothing is dropped, retyped or rewritten. Ours are
--   attempt       how often the task was claimed; renewals and settlements are fenced by it
--   source_table  the table whose change made the task; the activity itself when it was written directly
--   source_event  INSERT, UPDATE or DELETE there
--   source_key    the key of the changed row, as a JSON object
--   retry_at      when the machine that failed the task may try it again
--
-- Indexes are partial and few, because every one of them costs on every claim: the claimable rows of a table by age, the
-- leased ones by the time of their lease, the failed ones by how often they failed, the ended ones by age. Together they hold
-- every row once, so that lists of all of them, the newest first, merge a few index scans: an index of all rows by age would cost
-- a quarter of every insert and of every task, measured, that of the completed ones costs a fourteenth of a task. Half of each page is left free, so that the
-- new versions a task leaves behind stay beside the first: a seventh of the cost of a task, measured.
create table rowcall.facts (
  name text primary key,
  value text not null,
  noted_at timestamptz not null default now()
);
comment on table rowcall.facts is 'What the set-up of this database found or did once.';

do $$
declare
  kind "char";
begin
  select relkind into kind from pg_catalog.pg_class where oid = pg_catalog.to_regclass('public.rtx_activities');
  if kind is null then
    create table public.rtx_activities (
      -- Version 7: ids grow with time, so that the three index entries of a task are made side by side in pages that are in
      -- memory, however many old tasks there are: a fifth of the cost of a task, measured.
      id uuid primary key default pg_catalog.encode(
        pg_catalog.set_bit(pg_catalog.set_bit(
          overlay(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) placing substring(
            pg_catalog.int8send((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6),
          52, 1), 53, 1), 'hex')::uuid,
      user_id uuid,
      raw_data jsonb,
      old_data jsonb,
      status text default 'pending',
      locked_by text,
      locked_at timestamptz,
      completed_at timestamptz,
      error_message text,
      attempted_by text[] default '{}',
      retry_count integer default 0,
      result jsonb,
      created_at timestamptz default now()
    ) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
    insert into rowcall.facts (name, value) values ('activities', 'created');
    return;
  end if;
  if kind <> 'r' then
    raise exception 'public.rtx_activities exists and is not a plain table'
      using hint = 'Rename it, then run the migration again.';
  end if;
  if not exists (
    select from pg_catalog.pg_attribute
     where attrelid = 'public.rtx_activities'::regclass and attname = 'id' and atttypid = 'uuid'::regtype and not attisdropped
  ) then
    raise exception 'public.rtx_activities exists but has no column "id" of type uuid'
      using hint = 'It is not the table of the published protocol. Rename it, then run the migration again.';
  end if;
  insert into rowcall.facts (name, value) values ('activities', 'adopted');
end
$$;

alter table public.rtx_activities
  add column if not exists user_id uuid,
  add column if not exists raw_data jsonb,
  add column if not exists old_data jsonb,
  add column if not exists status text default 'pending',
  add column if not exists locked_by text,
  add column if not exists locked_at timestamptz,
  add column if not exists completed_at timestamptz,
  add column if not exists error_message text,
  add column if not exists attempted_by text[] default '{}',
  add column if not exists retry_count integer default 0,
  add column if not exists result jsonb,
  add column if not exists created_at timestamptz default now(),
  add column if not exists attempt integer not null default 0,
  add column if not exists source_table text collate "C" not null default 'public.rtx_activities',
  add column if not exists source_event text collate "C" not null default 'INSERT',
  add column if not exists source_key jsonb,
  add column if not exists retry_at timestamptz;

create index if not exists rtx_activities_pending_idx on public.rtx_activities (source_table, created_at)
  where coalesce(status, 'pending') = 'pending';
create index if not exists rtx_activities_leased_idx on public.rtx_activities (coalesce(locked_at, '-infinity'::timestamptz))
  where status in ('claimed', 'processing');
create index if not exists rtx_activities_failed_idx on public.rtx_activities (coalesce(retry_count, 0), created_at)
  where status = 'failed';
create index if not exists rtx_activities_completed_idx on public.rtx_activities (created_at, id)
  where status = 'completed';
create index if not exists rtx_activities_ended_idx on public.rtx_activities (status, created_at, id)
  where status not in ('pending', 'claimed', 'processing', 'failed', 'completed');
