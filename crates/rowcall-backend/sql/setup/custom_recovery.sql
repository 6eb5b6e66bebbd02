-- Locks of machines that went away come back every minute, where pg_cron is there; otherwise by the daemons or the app.
do $rowcall$
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    -- A schedule of the same name is replaced.
    perform cron.schedule({job}, '* * * * *', {recovery});
  end if;
end
$rowcall$;
