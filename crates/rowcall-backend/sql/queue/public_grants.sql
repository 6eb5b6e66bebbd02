-- Who may call what through the Data API, for the roles that exist. Contract: nobody by default; service_role everything and
-- all queues, also future ones of this role; authenticated the six queue functions and those of workers, where table grants and
-- policies then decide; anon nothing. Loops over the functions that exist, so it fits every version of pgmq.
do $$
declare
  granted text;
  called regprocedure;
begin
  for called in
    select p.oid::regprocedure from pg_catalog.pg_proc p
     where p.pronamespace = 'pgmq_public'::regnamespace
        or p.oid in (pg_catalog.to_regprocedure('public.create_pgmq_realtime_trigger(text,text,text)'),
                     pg_catalog.to_regprocedure('public.setup_realtime_triggers(text)'))
  loop
    execute pg_catalog.format('revoke all on function %s from public', called);
    foreach granted in array array['anon', 'authenticated'] loop
      if pg_catalog.to_regrole(granted) is not null then
        -- Default privileges of schema public may have granted these.
        execute pg_catalog.format('revoke all on function %s from %I', called, granted);
      end if;
    end loop;
    if pg_catalog.to_regrole('service_role') is not null then
      execute pg_catalog.format('grant execute on function %s to service_role', called);
    end if;
  end loop;
  if pg_catalog.to_regrole('authenticated') is not null then
    grant usage on schema pgmq_public, pgmq to authenticated;
    for called in
      select p.oid::regprocedure from pg_catalog.pg_proc p
       where p.pronamespace = 'pgmq_public'::regnamespace
         and p.proname in ('send', 'send_batch', 'read', 'pop', 'archive', 'delete', 'rowcall_work', 'rowcall_claim',
                           'rowcall_end', 'rowcall_due', 'rowcall_peek')
    loop
      execute pg_catalog.format('grant execute on function %s to authenticated', called);
    end loop;
  end if;
  if pg_catalog.to_regrole('service_role') is not null then
    grant usage on schema pgmq_public, pgmq to service_role;
    grant select, insert, update, delete on all tables in schema pgmq to service_role;
    grant usage on all sequences in schema pgmq to service_role;
    alter default privileges in schema pgmq grant select, insert, update, delete on tables to service_role;
    alter default privileges in schema pgmq grant usage on sequences to service_role;
  end if;
end
$$;
