-- recover_stale_locks_custom(table_name, timeout_minutes) -> how many stale rows of any table became pending, and which.
--
-- The table is named as in a query: `orders`, `shop.orders`, `"Odd Name"`. It needs the columns id (uuid), status, locked_by and
-- locked_at. With nothing stale: 0 and an empty array.
create or replace function public.recover_stale_locks_custom(
  table_name text default 'rtx_activities', timeout_minutes integer default 5
) returns table (recovered_count integer, recovered_ids uuid[])
language plpgsql as $$
begin
  return query execute pg_catalog.format(
    'with recovered as (
       update %s set status = ''pending'', locked_by = null, locked_at = null
        where status in (''claimed'', ''processing'')
          and coalesce(locked_at, ''-infinity'') < pg_catalog.now() - pg_catalog.make_interval(mins => $1)
       returning id
     )
     select pg_catalog.count(*)::integer, coalesce(pg_catalog.array_agg(id), ''{}'') from recovered',
    table_name::regclass
  ) using timeout_minutes;
end
$$;
