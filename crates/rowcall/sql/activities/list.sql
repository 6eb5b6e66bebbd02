-- Activities as JSON, the newest first. $1 status or null, $2 limit, $3 offset
--
-- There is no index of all activities by age: the partial ones hold every row once between them, and each branch reads one from
-- its new end and stops at the limit. Branches for other statuses than the one asked for are not run. Rows without a time, which
-- only foreign clients write, come first.
with recursive tables as (
  (select a.source_table from public.rtx_activities a
    where ($1::text is null or $1 = 'pending') and coalesce(a.status, 'pending') = 'pending'
    order by a.source_table limit 1)
  union all
  select (select a.source_table from public.rtx_activities a
           where coalesce(a.status, 'pending') = 'pending' and a.source_table > t.source_table
           order by a.source_table limit 1)
    from tables t where t.source_table is not null
), failures as (
  (select coalesce(a.retry_count, 0) as count from public.rtx_activities a
    where ($1::text is null or $1 = 'failed') and a.status = 'failed'
    order by coalesce(a.retry_count, 0) limit 1)
  union all
  select (select coalesce(a.retry_count, 0) from public.rtx_activities a
           where a.status = 'failed' and coalesce(a.retry_count, 0) > f.count
           order by coalesce(a.retry_count, 0) limit 1)
    from failures f where f.count is not null
), words as (
  select coalesce($1::text, (
           select a.status from public.rtx_activities a
            where a.status not in ('pending', 'claimed', 'processing', 'failed', 'completed')
            order by a.status limit 1)) as status
  union all
  select (select a.status from public.rtx_activities a
           where a.status not in ('pending', 'claimed', 'processing', 'failed', 'completed') and a.status > w.status
           order by a.status limit 1)
    from words w where $1::text is null and w.status is not null
)
select {columns}
  from public.rtx_activities a
 where a.id = any (array(
   select u.id
     from (
       (select a.id, a.created_at from public.rtx_activities a
         where ($1::text is null or $1 = 'completed') and a.status = 'completed'
         order by a.created_at desc, a.id desc limit $2::bigint + $3::bigint)
       union all
       (select n.id, n.created_at
          from tables t
          cross join lateral (
            select a.id, a.created_at from public.rtx_activities a
             where coalesce(a.status, 'pending') = 'pending' and a.source_table = t.source_table
             order by a.created_at desc, a.id desc limit $2::bigint + $3::bigint) n)
       union all
       (select a.id, a.created_at from public.rtx_activities a
         where ($1::text is null or $1 in ('claimed', 'processing')) and a.status in ('claimed', 'processing')
           and ($1::text is null or a.status = $1)
         order by a.created_at desc, a.id desc limit $2::bigint + $3::bigint)
       union all
       (select n.id, n.created_at
          from failures f
          cross join lateral (
            select a.id, a.created_at from public.rtx_activities a
             where a.status = 'failed' and coalesce(a.retry_count, 0) = f.count
             order by a.created_at desc, a.id desc limit $2::bigint + $3::bigint) n)
       union all
       (select n.id, n.created_at
          from words w
          cross join lateral (
            select a.id, a.created_at from public.rtx_activities a
             where a.status not in ('pending', 'claimed', 'processing', 'failed', 'completed') and a.status = w.status
             order by a.created_at desc, a.id desc limit $2::bigint + $3::bigint) n)
     ) u
    order by u.created_at desc, u.id desc
    limit $2 offset $3))
 order by a.created_at desc, a.id desc
