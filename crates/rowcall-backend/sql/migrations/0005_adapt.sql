-- rowcall.adapt(): fits the tables to what else is in the database; run after every migration, and whenever roles, the
-- publication or pg_cron may have come later. Returns one line for each thing that was done or could not be done.
--
-- * Row level security and owner policies on rtx_activities, once, when it is our table and auth.uid() and the role
--   authenticated exist. On a table made by RealTimeX only the missing policy for DELETE is added, where security is on.
-- * Membership of the publication supabase_realtime and full replica identity, which its subscribers need.
-- * A pg_cron job that returns stale leases, unless one is there. Without pg_cron the daemons do that.
create function rowcall.adapt() returns setof text
language plpgsql set search_path = '' as $$
declare
  activities constant regclass := 'public.rtx_activities';
  ours constant boolean := exists (select from rowcall.facts where name = 'activities' and value = 'created');
  has_users constant boolean := pg_catalog.to_regprocedure('auth.uid()') is not null
    and exists (select from pg_catalog.pg_roles where rolname = 'authenticated');
begin
  if has_users and ours and not exists (select from rowcall.facts where name = 'row_security') then
    alter table public.rtx_activities enable row level security;
    alter table public.rtx_activities alter column user_id set default auth.uid();
    create policy rtx_activities_insert_own on public.rtx_activities
      for insert to authenticated with check ((select auth.uid()) = user_id);
    create policy rtx_activities_select_own on public.rtx_activities
      for select to authenticated using ((select auth.uid()) = user_id);
    create policy rtx_activities_update_own on public.rtx_activities
      for update to authenticated using ((select auth.uid()) = user_id);
    create policy rtx_activities_delete_own on public.rtx_activities
      for delete to authenticated using ((select auth.uid()) = user_id);
    grant select, insert, update, delete on public.rtx_activities to authenticated;
    if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
      grant all on public.rtx_activities to service_role;
    end if;
    insert into rowcall.facts (name, value) values ('row_security', 'enabled');
    return next 'row level security is on: signed-in users see their own activities';
  elsif has_users and not ours
    and (select relrowsecurity from pg_catalog.pg_class where oid = activities)
    and not exists (select from pg_catalog.pg_policy where polrelid = activities and polcmd in ('d', '*')) then
    create policy rtx_activities_delete_own on public.rtx_activities
      for delete to authenticated using ((select auth.uid()) = user_id);
    return next 'signed-in users may delete their own activities';
  end if;

  if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    begin
      if not exists (
        select from pg_catalog.pg_publication_tables
         where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'rtx_activities'
      ) then
        alter publication supabase_realtime add table public.rtx_activities;
        return next 'rtx_activities is in the publication supabase_realtime';
      end if;
    exception when insufficient_privilege then
      return next 'rtx_activities is not in the publication supabase_realtime: its owner must add it';
    end;
    if (select relreplident from pg_catalog.pg_class where oid = activities) <> 'f' then
      alter table public.rtx_activities replica identity full;
      return next 'rtx_activities has full replica identity';
    end if;
  end if;

  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    begin
      if not exists (select from cron.job where command ilike '%unlock_stale_locks%') then
        perform cron.schedule('scavenge-stale-locks', '* * * * *', 'select public.unlock_stale_locks();');
        return next 'pg_cron returns stale leases every minute';
      end if;
    exception when others then
      return next 'pg_cron could not be used: ' || sqlerrm;
    end;
  end if;
end
$$;
