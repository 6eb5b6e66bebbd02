-- Calendar entries that a daemon left running when it was killed. ?1 now
update calendar set state = case trigger when 'review' then 'waiting' else 'seen' end, updated_at = ?1
where state = 'running'
