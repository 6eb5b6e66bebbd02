-- The table of the example: customers' tickets, whose category and priority an agent fills in.
-- Safe to run again. Works on the embedded database, on Supabase, and on any PostgreSQL 14 or newer.

create table if not exists public.support_tickets (
  id uuid not null default gen_random_uuid(),
  customer_email text not null,
  subject text not null,
  message text not null,
  category text null, -- filled in by the agent
  priority text null, -- filled in by the agent
  status text default 'pending',
  locked_by text null,
  locked_at timestamp with time zone null,
  created_at timestamp with time zone default now(),
  constraint support_tickets_pkey primary key (id)
);

create index if not exists idx_tickets_status on public.support_tickets (status);

-- For clients that watch the table over Realtime. rowcall itself needs neither: it captures changes with its own trigger.
alter table public.support_tickets replica identity full;

do $$
begin
  -- Without Supabase (or the embedded stack) there is no such publication.
  if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables)
    and not exists (
      select from pg_publication_tables
      where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'support_tickets'
    )
  then
    alter publication supabase_realtime add table public.support_tickets;
  end if;
end
$$;
