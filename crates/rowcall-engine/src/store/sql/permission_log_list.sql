-- What was decided, and when each permission was used last, the newest first. ?1 app or null, ?2 limit
select id, at, app, permission, what, decided_by from (
  select id, at, app, permission, what, decided_by from permission_log
  where ?1 is null or app = ?1
  order by id desc limit ?2)
union all
select 0, last_at, app, permission, 'used',
       'the app, ' || uses || ' times since ' || strftime('%Y-%m-%dT%H:%M:%SZ', first_at / 1000, 'unixepoch')
from permission_uses
where ?1 is null or app = ?1
order by at desc, id desc limit ?2
