-- Makes the daily partitions of our own `realtime.messages`, from yesterday to three days ahead, and drops what is older
-- than 72 hours. Returns how many days are covered from today on, 0 when the table is not ours.
--
-- A day whose rows already went to the default partition gets none of its own: they would have to be inserted again, which
-- would broadcast them again.
do $$
declare
  day date;
  old record;
begin
  if pg_catalog.obj_description('realtime.messages'::regclass, 'pg_class') is distinct from 'rowcall: broadcasts from the database' then
    return;
  end if;
  -- Two servers on one database take turns.
  perform pg_catalog.pg_advisory_xact_lock(7239501882640113);
  for day in select d::date from generate_series(current_date - 1, current_date + 3, interval '1 day') d loop
    if pg_catalog.to_regclass(format('realtime.messages_%s', to_char(day, 'YYYY_MM_DD'))) is null then
      begin
        execute format(
          'create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
          'messages_' || to_char(day, 'YYYY_MM_DD'), day, day + 1);
      exception when check_violation then
        raise warning 'no partition of realtime.messages for %: its rows are in the default partition', day;
      end;
    end if;
  end loop;
  for old in
    select c.relname
      from pg_catalog.pg_inherits i
      join pg_catalog.pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'realtime.messages'::regclass
       and c.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
       and to_date(right(c.relname, 10), 'YYYY_MM_DD') < current_date - 3
  loop
    execute format('drop table realtime.%I', old.relname);
  end loop;
  delete from realtime.messages_default where inserted_at < now() - interval '72 hours';
end
$$;
