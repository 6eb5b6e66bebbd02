-- Tasks, the newest first. $1 states or null, $2 source table or null, $3 event or null, $4 only what needs attention,
-- $5 max attempts, $6 limit, $7 offset.
--
-- There is no index of all tasks by age: the partial ones hold every row once between them, and each branch reads one from its new
-- end and stops at the limit. Branches for other states than those asked for are not run. Rows without a time, which only foreign
-- clients write, come first.
with recursive tables as (
  select coalesce($2::text collate "C", (
           select a.source_table from public.rtx_activities a
            where coalesce(a.status, 'pending') = 'pending'
            order by a.source_table limit 1)) as source_table
   where $1::text[] is null or 'pending' = any ($1)
  union all
  select (select a.source_table from public.rtx_activities a
           where coalesce(a.status, 'pending') = 'pending' and a.source_table > t.source_table
           order by a.source_table limit 1)
    from tables t where $2::text is null and t.source_table is not null
), failures as (
  (select coalesce(a.retry_count, 0) as count from public.rtx_activities a
    where ($1::text[] is null or 'failed' = any ($1)) and a.status = 'failed'
    order by coalesce(a.retry_count, 0) limit 1)
  union all
  select (select coalesce(a.retry_count, 0) from public.rtx_activities a
           where a.status = 'failed' and coalesce(a.retry_count, 0) > f.count
           order by coalesce(a.retry_count, 0) limit 1)
    from failures f where f.count is not null
), words as (
  (select a.status from public.rtx_activities a
    where not $4::boolean and a.status not in ('pending', 'claimed', 'processing', 'failed', 'completed')
    order by a.status limit 1)
  union all
  select (select a.status from public.rtx_activities a
           where a.status not in ('pending', 'claimed', 'processing', 'failed', 'completed') and a.status > w.status
           order by a.status limit 1)
    from words w where w.status is not null
)
select {columns}
  from public.rtx_activities a
 where a.id = any (array(
   select u.id
     from (
       (select a.id, a.created_at from public.rtx_activities a
         where not $4::boolean and ($1::text[] is null or 'completed' = any ($1)) and a.status = 'completed'
           and ($2::text is null or a.source_table = $2) and ($3::text is null or a.source_event = $3)
         order by a.created_at desc, a.id desc limit $6::bigint + $7::bigint)
       union all
       (select n.id, n.created_at
          from tables t
          cross join lateral (
            select a.id, a.created_at from public.rtx_activities a
             where coalesce(a.status, 'pending') = 'pending' and a.source_table = t.source_table
               and ($3::text is null or a.source_event = $3) and (not $4::boolean or coalesce(a.retry_count, 0) >= $5)
             order by a.created_at desc, a.id desc limit $6::bigint + $7::bigint) n)
       union all
       (select a.id, a.created_at from public.rtx_activities a
         where not $4::boolean and ($1::text[] is null or $1 && array['claimed', 'processing'])
           and a.status in ('claimed', 'processing') and ($1::text[] is null or a.status = any ($1))
           and ($2::text is null or a.source_table = $2) and ($3::text is null or a.source_event = $3)
         order by a.created_at desc, a.id desc limit $6::bigint + $7::bigint)
       union all
       (select n.id, n.created_at
          from failures f
          cross join lateral (
            select a.id, a.created_at from public.rtx_activities a
             where a.status = 'failed' and coalesce(a.retry_count, 0) = f.count
               and ($2::text is null or a.source_table = $2) and ($3::text is null or a.source_event = $3)
             order by a.created_at desc, a.id desc limit $6::bigint + $7::bigint) n
         where not $4::boolean or f.count >= $5)
       union all
       (select n.id, n.created_at
          from words w
          cross join lateral (
            select a.id, a.created_at from public.rtx_activities a
             where a.status not in ('pending', 'claimed', 'processing', 'failed', 'completed') and a.status = w.status
               and ($2::text is null or a.source_table = $2) and ($3::text is null or a.source_event = $3)
             order by a.created_at desc, a.id desc limit $6::bigint + $7::bigint) n
         where $1::text[] is null or w.status = any ($1))
     ) u
    order by u.created_at desc, u.id desc
    limit $6 offset $7))
 order by a.created_at desc, a.id desc
