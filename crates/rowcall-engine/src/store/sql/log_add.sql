-- One line. ?1 attempt, ?2 sequence number, ?3 at, ?4 stream, ?5 line
insert or replace into log_lines (attempt_id, seq, at, stream, line) values (?1, ?2, ?3, ?4, ?5)
