-- Attempts that a daemon left open when it was killed. ?1 now
update attempts set ended_at = ?1, outcome = 'interrupted' where ended_at is null
