-- Forgets calendar entries that are done and too old or too many. ?1 before, ?2 how many to keep
delete from calendar where state not in ('waiting', 'running') and (
    updated_at < ?1
    or id <= (select id from calendar order by id desc limit 1 offset ?2)
)
