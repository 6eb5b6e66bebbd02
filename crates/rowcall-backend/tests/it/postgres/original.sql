-- What RealTimeX's own set-up makes, older functions included: the table, its index, row level security for signed-in users,
-- and the functions with their defects. Our migrations must live beside it.
create table public.rtx_activities (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  raw_data jsonb,
  old_data jsonb,
  locked_by text,
  locked_at timestamptz,
  status text default 'pending',
  completed_at timestamptz,
  error_message text,
  attempted_by text[] default '{}',
  retry_count integer default 0,
  result jsonb,
  created_at timestamptz default now()
);
create index idx_rtx_activities_status on public.rtx_activities (status);
alter table public.rtx_activities replica identity full;

create or replace function public.rtx_fn_claim_task(target_task_id uuid, machine_id text) returns boolean as $$
declare
  updated_rows int;
begin
  update public.rtx_activities
  set status = 'claimed', locked_by = machine_id, locked_at = now()
  where id = target_task_id
    and (status = 'pending' or status = 'failed'
      or ((status = 'claimed' or status = 'processing') and locked_at < now() - interval '5 minutes'))
    and not (machine_id = any (attempted_by));
  get diagnostics updated_rows = row_count;
  return updated_rows > 0;
end;
$$ language plpgsql;

create or replace function public.rtx_fn_complete_task(target_task_id uuid, result_data jsonb) returns boolean as $$
declare
  updated_rows int;
begin
  update public.rtx_activities set status = 'completed', result = result_data, completed_at = now()
  where id = target_task_id and (status = 'claimed' or status = 'processing');
  get diagnostics updated_rows = row_count;
  return updated_rows > 0;
end;
$$ language plpgsql;

create or replace function public.rtx_fn_fail_task(target_task_id uuid, machine_id text, error_msg text) returns boolean as $$
declare
  updated_rows int;
begin
  update public.rtx_activities
  set status = 'failed', error_message = error_msg, attempted_by = array_append(attempted_by, machine_id),
      retry_count = retry_count + 1, locked_by = null, locked_at = null
  where id = target_task_id;
  get diagnostics updated_rows = row_count;
  return updated_rows > 0;
end;
$$ language plpgsql;

create or replace function public.unlock_stale_locks() returns void as $$
begin
  update public.rtx_activities set status = 'pending', locked_by = null, locked_at = null
  where (status = 'claimed' or status = 'processing') and locked_at < now() - interval '5 minutes';
end;
$$ language plpgsql;

create or replace function public.get_publications_full() returns json language sql stable as $$
  select null::json
$$;
