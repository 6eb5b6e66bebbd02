-- Captures one table: looks at it, puts the functions and triggers on it that it calls for, and notes them. The events are rows
-- of (event, name of the row, function and trigger for each statement, function and trigger for each row), in which `number`,
-- `key` and `ignored` between two marks stand for what only the table tells. Doing it twice changes nothing.
do $rowcall_capture$
declare
  mark constant text := {mark};
  seen record;
  rel oid;
  before record;
  one record;
  missing text;
  plain boolean;
  ignored text := '';
  key_of text;
  number integer;
  body text;
  definition text := '';
  kinds text[] := '{}';
  statements text[] := '{}';
begin
  perform pg_catalog.pg_advisory_xact_lock({lock});
  select * into seen from (
{inspect}
  ) as found (oid, kind, inherits, owned, columns, virtual_columns, key_columns, usable_indexes);
  rel := seen.oid;
  if rel is null then
    raise exception 'there is no table %', {table};
  elsif seen.kind not in ('r', 'p') then
    raise exception '% is no table: only tables have triggers that see every change', {table};
  elsif not seen.owned then
    raise exception '% belongs to another role, and only its owner may put triggers on it', {table};
  elsif pg_catalog.cardinality(seen.key_columns) = 0 then
    raise exception '% has no primary key, so its rows cannot be told apart', {table};
  end if;
  select f into missing from unnest({filter_columns}) as f where f <> all (seen.columns) limit 1;
  if missing is not null then
    raise exception 'the filter names the column %, which % does not have', missing, {table};
  end if;
  if not ({rights}) then
    raise exception 'this role may not insert into public.rtx_activities past its row level security';
  end if;
  plain := seen.kind = 'r' and not seen.inherits;
  if seen.columns @> array['locked_by', 'locked_at'] then
    select ' - array[' || pg_catalog.string_agg('''' || b || '''', ', ' order by place) || ']' into ignored
      from unnest({bookkeeping}) with ordinality as x (b, place) where b = any (seen.columns);
  end if;
  select * into before from (
{state}
  ) as known (number, definition, triggers);
  number := coalesce(before.number, pg_catalog.nextval('rowcall.capture_number')::integer);
  for one in
    select v.*, plain and v.event <> 'UPDATE' as per_statement from (values
      {events}
    ) as v (event, row_name, statement_function, statement_trigger, row_function, row_trigger)
  loop
    select 'jsonb_build_object(' || pg_catalog.string_agg(
             case when pg_catalog.strpos(k, e'\\') > 0
               then 'e''' || replace(replace(k, '''', ''''''), e'\\', e'\\\\') || ''''
               else '''' || replace(k, '''', '''''') || ''''
             end
             || ', ' || case when one.per_statement then 'r' else one.row_name end || '."' || replace(k, '"', '""') || '"',
             ', ' order by place) || ')'
      into key_of
      from unnest(seen.key_columns) with ordinality as x (k, place);
    foreach body in array case when one.per_statement
      then array[one.statement_function, one.statement_trigger]
      else array[one.row_function, one.row_trigger] end
    loop
      body := replace(body, mark || 'number' || mark, number::text);
      body := replace(body, mark || 'key' || mark, key_of);
      body := replace(body, mark || 'ignored' || mark, ignored);
      statements := statements || body;
      definition := definition || body;
    end loop;
    kinds := kinds || one.event;
  end loop;
  definition := pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(definition, 'UTF8')), 'hex');
  if before.definition = definition and before.triggers = pg_catalog.cardinality(kinds) then
    return;
  end if;
  for one in select * from (values {triggers}) as v (name, event) loop
    execute pg_catalog.format('drop trigger if exists %I on %I.%I', one.name, {schema}, {name});
    execute pg_catalog.format('drop function if exists rowcall.%I()', 'capture_' || number || '_' || one.event);
  end loop;
  foreach body in array statements loop
    execute body;
  end loop;
  foreach body in array kinds loop
    -- A trigger fires with the definer's rights; nobody calls the function by hand.
    execute pg_catalog.format(
      'revoke all on function rowcall.%I() from public', 'capture_' || number || '_' || pg_catalog.lower(body)
    );
  end loop;
  insert into rowcall.captures as c (number, relation, source, events, filter, key_columns, definition)
  values (number, rel, {table}, kinds, {filter}, seen.key_columns, definition)
  on conflict on constraint captures_pkey do update set source = excluded.source, events = excluded.events,
    filter = excluded.filter, key_columns = excluded.key_columns, definition = excluded.definition, installed_at = now();
end
$rowcall_capture$;
