-- Forgets old answers. ?1 before
delete from event_receipts where at < ?1
