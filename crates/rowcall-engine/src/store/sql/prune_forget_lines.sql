-- Says so in the attempt. ?1 attempt
update attempts set cut_after = 0, cut_lines = log_lines, cut_bytes = cut_bytes + log_bytes, log_bytes = 0 where id = ?1
