-- The newest stored broadcasts of a private topic since a time, newest first: $1 the topic, $2 milliseconds since 1970,
-- $3 how many. Run as owner: the read policy was checked by the join.
select id, event, payload::text, binary_payload
  from realtime.messages
 where topic = $1
   and private
   and extension = 'broadcast'
   and event is not null
   and inserted_at >= (timestamp 'epoch' + $2 * interval '1 millisecond')
 order by inserted_at desc, id
 limit $3
