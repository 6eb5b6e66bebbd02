-- Schema `realtime` and table `realtime.messages`: what is broadcast from the database, and what private channels are
-- authorized against (select = join and receive, insert = send and track).
--
-- Only where `realtime.messages` does not exist: on a Supabase project it does and stays as it is. The comment marks the
-- table as ours, so that the partition janitor touches no other.
do $$
begin
  if pg_catalog.to_regclass('realtime.messages') is not null then
    return;
  end if;

  create schema if not exists realtime;
  grant usage on schema realtime to anon, authenticated, service_role;

  create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp without time zone not null default now(),
    inserted_at timestamp without time zone not null default now(),
    id uuid not null default gen_random_uuid(),
    binary_payload bytea,
    skip_broadcast boolean not null default false,
    primary key (id, inserted_at),
    constraint messages_payload_exclusive check (payload is null or binary_payload is null)
  ) partition by range (inserted_at);

  comment on table realtime.messages is 'rowcall: broadcasts from the database';
  alter table realtime.messages enable row level security;
  grant select, insert, update on realtime.messages to anon, authenticated, service_role;
  create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
    where extension = 'broadcast' and private;

  -- The safety net: without a partition `realtime.send` would fail, and it fails in silence.
  create table realtime.messages_default partition of realtime.messages default;
end
$$;
