-- Remembers the answer to a task event. ?1 key, ?2 answer, ?3 now
insert into event_receipts (key, answer, at) values (?1, ?2, ?3)
on conflict do nothing
