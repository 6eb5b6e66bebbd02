-- Throws away the lines ?2 to ?3 of attempt ?1, which no longer fit.
delete from log_lines where attempt_id = ?1 and seq between ?2 and ?3
