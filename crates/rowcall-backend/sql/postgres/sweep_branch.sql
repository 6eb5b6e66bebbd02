(select a.id, a.created_at
   from public.rtx_activities a
  where {state} and {selected} and {before}
  order by a.created_at desc, a.id desc
  limit $1)
