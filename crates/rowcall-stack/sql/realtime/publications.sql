-- The two publications the server reads: `supabase_realtime` for postgres_changes, and one over `realtime.messages` for
-- broadcasts from the database. Created when absent; tables are added to the first by their owner.
--
-- They have to exist before the replication slot: decoding a change that is older than the publication fails for ever.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages
      with (publish = 'insert', publish_via_partition_root = true);
  end if;
end
$$;
