-- The attempt whose lines are read: the one asked for, or the last. ?1 task id, ?2 task table or null, ?3 attempt or null
select id, attempt, ended_at is not null, cut_after, cut_lines, cut_bytes
from attempts
where task_id = ?1 and (?2 is null or task_table = ?2) and (?3 is null or attempt = ?3)
order by started_at desc, attempt desc
limit 1
