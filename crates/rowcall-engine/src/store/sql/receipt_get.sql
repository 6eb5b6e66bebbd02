-- The answer to a task event. ?1 key
select answer from event_receipts where key = ?1
