-- Forgets ended attempts that are too old or too many, their lines with them. ?1 before, ?2 how many to keep
delete from attempts where ended_at is not null and (
    started_at < ?1
    or id <= (select id from attempts order by id desc limit 1 offset ?2)
)
