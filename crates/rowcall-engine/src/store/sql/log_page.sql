-- Lines after a cursor. ?1 attempt row, ?2 after which sequence number, ?3 limit
select seq, at, stream, line from log_lines where attempt_id = ?1 and seq > ?2 order by seq limit ?3
