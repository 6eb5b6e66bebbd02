-- Tries to insert as the role in force: $1 the topic, $2 the extension. Fails with 42501 where no policy allows it.
insert into realtime.messages (topic, extension, private) values ($1, $2, true)
