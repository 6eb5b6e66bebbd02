do $rowcall$
declare
  found constant text := (select prosrc from pg_catalog.pg_proc where oid = pg_catalog.to_regprocedure({signature}));
  ours constant boolean := exists (
    select from rowcall.functions
     where signature = {signature}
       and body_checksum = pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(found, 'UTF8')), 'hex'));
  current constant boolean := exists (
    select from rowcall.functions where signature = {signature} and file_checksum = {checksum});
begin
  if found is null or (ours and not current) or (not ours and {replace}) then
    execute {quote}
{text}
{quote};
    insert into rowcall.functions (signature, file_checksum, body_checksum)
      select {signature}, {checksum}, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(prosrc, 'UTF8')), 'hex')
        from pg_catalog.pg_proc where oid = pg_catalog.to_regprocedure({signature})
      on conflict (signature) do update set file_checksum = excluded.file_checksum,
        body_checksum = excluded.body_checksum, installed_at = now();
  elsif not ours then
    raise notice '% was made by somebody else and stays as it is', {signature};
  end if;
end
$rowcall$;
