-- Inserts, as owner, the two rows a policy check tries to read back: $1 the topic, $2 and $3 the ids of the broadcast and
-- the presence probe. The transaction is always rolled back.
insert into realtime.messages (id, topic, extension, event, private)
values ($2, $1, 'broadcast', null, true), ($3, $1, 'presence', null, true)
