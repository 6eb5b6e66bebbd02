-- Throws away all lines of an attempt; the attempt stays. ?1 attempt
delete from log_lines where attempt_id = ?1
