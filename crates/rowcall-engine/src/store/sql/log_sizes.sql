-- Keeps count of an attempt's lines. ?1 attempt, ?2 lines ever, ?3 bytes kept, ?4 last line of the head, ?5 lines cut,
-- ?6 bytes cut
update attempts set log_lines = ?2, log_bytes = ?3, cut_after = ?4, cut_lines = ?5, cut_bytes = ?6 where id = ?1
