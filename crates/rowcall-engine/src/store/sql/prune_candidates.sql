-- The oldest ended attempts with what their lines take, for pruning by size. ?1 limit
select id, log_bytes from attempts
where ended_at is not null and log_bytes > 0
order by id
limit ?1
