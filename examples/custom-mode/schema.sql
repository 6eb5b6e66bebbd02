-- The orders of an app in custom mode: its own table, its own locks.
--
-- Run it once in the project, as its owner (SQL editor of the project, or psql). Running it again changes nothing.

create table if not exists public.orders (
  id uuid primary key default gen_random_uuid(),
  customer text not null,
  item text not null,
  quantity integer not null default 1,
  -- What rowcall needs to see where an order stands.
  status text default 'pending', -- pending, claimed, processing, completed, failed
  locked_by text,
  locked_at timestamptz,
  -- Recommended: who failed it, how often, why, and what came of it.
  attempted_by text[] default '{}',
  retry_count integer default 0,
  error_message text,
  completed_at timestamptz,
  result jsonb,
  created_at timestamptz default now()
);
create index if not exists orders_status_idx on public.orders (status);
alter table public.orders replica identity full;

do $$
begin
  alter publication supabase_realtime add table public.orders;
exception when duplicate_object then null;
end
$$;

-- lock_order(order_id, machine) -> {"success", "locked_by", "locked_at"} or {"success": false, "reason", "locked_by"}.
-- One conditional update decides, by the clock of the database: however many machines ask, one is given the lock.
create or replace function public.lock_order(order_id uuid, machine text) returns jsonb
language plpgsql set search_path = '' as $$
declare
  taken public.orders;
begin
  update public.orders
     set status = 'claimed', locked_by = machine, locked_at = now()
   where id = order_id
     and (coalesce(status, 'pending') in ('pending', 'failed')
       or (status in ('claimed', 'processing') and coalesce(locked_at, '-infinity') < now() - interval '5 minutes'))
     and not (machine = any (coalesce(attempted_by, '{}')))
     and coalesce(retry_count, 0) < 3
  returning * into taken;
  if found then
    return pg_catalog.jsonb_build_object('success', true, 'locked_by', taken.locked_by, 'locked_at', taken.locked_at);
  end if;
  select * into taken from public.orders where id = order_id;
  if not found then
    return pg_catalog.jsonb_build_object('success', false, 'reason', 'not_found');
  end if;
  return pg_catalog.jsonb_build_object('success', false, 'locked_by', taken.locked_by, 'reason',
    case when taken.status in ('claimed', 'processing') then 'already_locked' else 'not_available' end);
end
$$;

-- finish_order(order_id, machine, result, error) -> whether it stands: written now, or by an earlier call with the same outcome.
-- Only the holder of the lock writes. A failure names the machine, so that another one tries next.
create or replace function public.finish_order(order_id uuid, machine text, result jsonb, error text) returns boolean
language plpgsql set search_path = '' as $$
begin
  if error is null then
    update public.orders o
       set status = 'completed', result = finish_order.result, completed_at = now()
     where o.id = order_id and o.locked_by = machine and o.status in ('claimed', 'processing');
    return found or exists (
      select from public.orders o where o.id = order_id and o.status = 'completed' and o.locked_by = machine);
  end if;
  update public.orders o
     set status = 'failed', error_message = error, locked_by = null, locked_at = null,
         retry_count = coalesce(o.retry_count, 0) + 1,
         attempted_by = pg_catalog.array_append(coalesce(o.attempted_by, '{}'), machine)
   where o.id = order_id and o.locked_by = machine and o.status in ('claimed', 'processing');
  return found or exists (
    select from public.orders o where o.id = order_id and o.status = 'failed' and machine = any (o.attempted_by));
end
$$;

-- recover_orders() -> the orders whose holder went away, now pending again, each with that machine.
create or replace function public.recover_orders() returns table (order_id uuid, failed_by text)
language sql set search_path = '' as $$
  with stale as (
    select id, locked_by from public.orders
     where status in ('claimed', 'processing') and coalesce(locked_at, '-infinity') < now() - interval '5 minutes'
       for update skip locked
  )
  update public.orders o set status = 'pending', locked_by = null, locked_at = null
    from stale where o.id = stale.id
  returning o.id, stale.locked_by
$$;

-- These are for the app, which has the service key; rowcall needs no more than to read and renew.
revoke execute on function public.lock_order, public.finish_order, public.recover_orders from public, anon, authenticated;
grant execute on function public.lock_order, public.finish_order, public.recover_orders to service_role;
grant all on public.orders to service_role;

notify pgrst, 'reload schema';
