-- rowcall_maintain(machine, sources, lease_seconds, max_attempts, same_machine) -> one look at everything that is due, as JSON:
--   recovered   the tasks whose leases were stale and are pending now, each with its former holder
--   ready       whether something is claimable by these sources (as in rowcall_claim_next), what was just recovered included
--   next_retry  the seconds until this machine may try again something it failed, or null
create or replace function public.rowcall_maintain(
  machine text, sources jsonb, lease_seconds double precision, max_attempts integer, same_machine boolean
) returns jsonb
language plpgsql set search_path = '' as $$
declare
  recovered jsonb;
  ready boolean;
  next_retry double precision;
begin
  with stale as (
    select a.id, a.locked_by
      from public.rtx_activities a
     where a.status in ('claimed', 'processing')
       and coalesce(a.locked_at, '-infinity'::timestamptz) < now() - pg_catalog.make_interval(secs => greatest(lease_seconds, 300))
       for update skip locked
  ), returned as (
    update public.rtx_activities a
       set status = 'pending', locked_by = null, locked_at = null
      from stale
     where a.id = stale.id
    returning a.id, stale.locked_by
  )
  select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('id', id, 'locked_by', locked_by)), '[]'::jsonb)
    into recovered
    from returned;

  select exists (
    select from pg_catalog.jsonb_to_recordset(sources) s ("table" text, events text[])
     where exists (
       select from public.rtx_activities a
        where coalesce(a.status, 'pending') = 'pending' and a.source_table = s."table"
          and (s.events is null or a.source_event = any (s.events))
          and coalesce(a.retry_count, 0) < max_attempts
          and (not (machine = any (coalesce(a.attempted_by, '{}')))
            or (same_machine and coalesce(a.retry_at, '-infinity') <= now()))
     ) or exists (
       select from public.rtx_activities a
        where a.status = 'failed' and a.source_table = s."table"
          and (s.events is null or a.source_event = any (s.events))
          and coalesce(a.retry_count, 0) < max_attempts
          and (not (machine = any (coalesce(a.attempted_by, '{}')))
            or (same_machine and coalesce(a.retry_at, '-infinity') <= now()))
     )
  ) into ready;

  if same_machine then
    select pg_catalog.date_part('epoch', min(a.retry_at) - now())
      into next_retry
      from public.rtx_activities a
      join pg_catalog.jsonb_to_recordset(sources) s ("table" text, events text[])
        on a.source_table = s."table" and (s.events is null or a.source_event = any (s.events))
     where a.status = 'failed' and coalesce(a.retry_count, 0) < max_attempts
       and a.retry_at > now() and machine = any (coalesce(a.attempted_by, '{}'));
  end if;
  return pg_catalog.jsonb_build_object('recovered', recovered, 'ready', ready, 'next_retry', next_retry);
end
$$;
