-- unlock_stale_locks(): returns leases that are stale for more than five minutes to pending. For pg_cron, every minute.
create or replace function public.unlock_stale_locks() returns void
language plpgsql set search_path = '' as $$
begin
  update public.rtx_activities
     set status = 'pending', locked_by = null, locked_at = null
   where status in ('claimed', 'processing')
     and coalesce(locked_at, '-infinity'::timestamptz) < now() - interval '5 minutes';
end
$$;
