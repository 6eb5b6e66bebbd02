-- What all kept lines take, in bytes.
select coalesce(sum(log_bytes), 0) from attempts
