-- The floor: completes the last batch and claims the next one, with everything that exclusive, fenced leases need and nothing
-- else. Settles first, so that two of these cannot wait for each other. $1 machine, $2 limit, $3 source table; $4 ids, $5 attempts, $6 results of the last batch.
-- Returns the claimed tasks; the settlement shows as one row of nulls.
with settled as (
  update public.rtx_activities a
     set status = 'completed', result = done.result, completed_at = now()
    from unnest($4::uuid[], $5::integer[], $6::jsonb[]) as done (id, attempt, result)
   where a.id = done.id and a.locked_by = $1 and a.attempt = done.attempt and coalesce(a.status, '') in ('claimed', 'processing')
  returning a.id
), claimed as (
  update public.rtx_activities a
     set status = 'claimed', locked_by = $1, locked_at = now(), attempt = a.attempt + 1
   where a.ctid = any (array(
     select c.ctid
       from public.rtx_activities c
      where coalesce(c.status, 'pending') = 'pending' and c.source_table = $3
      order by c.created_at
      limit $2 + 0 * (select count(*) from settled)
        for update skip locked))
  returning a.id, a.attempt, a.raw_data
)
select id, attempt, raw_data, null::bigint from claimed
union all
select null, null, null, (select count(*) from settled)
