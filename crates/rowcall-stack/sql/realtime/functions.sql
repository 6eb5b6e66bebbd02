-- realtime.topic(), realtime.send(), realtime.send_binary(), realtime.broadcast_changes(): the functions by which SQL
-- reaches channels, with the signatures and behaviour Supabase documents.
--
-- Each is created only when absent. All run with the caller's rights: a caller without an insert policy on
-- `realtime.messages` sends nothing and gets a warning.
do $$
begin
  if not pg_catalog.has_schema_privilege('realtime', 'create') then
    return;
  end if;

  if pg_catalog.to_regprocedure('realtime.topic()') is null then
    create function realtime.topic() returns text language sql stable as $body$
      select nullif(current_setting('realtime.topic', true), '')
    $body$;
  end if;

  if pg_catalog.to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null then
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
    returns void language plpgsql as $body$
    declare
      message_id uuid := gen_random_uuid();
    begin
      if jsonb_typeof(payload) is distinct from 'object' then
        raise warning 'WarnSendingBroadcastMessage: the payload must be a JSON object';
        return;
      end if;
      if not payload ? 'id' then
        payload := payload || jsonb_build_object('id', message_id);
      end if;
      -- Policies read the topic with realtime.topic(); it stays set for the rest of the transaction.
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (id, payload, event, topic, private, extension)
      values (message_id, send.payload, send.event, send.topic, send.private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $body$;
  end if;

  if pg_catalog.to_regprocedure('realtime.send_binary(bytea,text,text,boolean)') is null then
    create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
    returns void language plpgsql as $body$
    begin
      perform set_config('realtime.topic', topic, true);
      insert into realtime.messages (binary_payload, event, topic, private, extension)
      values (send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast');
    exception when others then
      raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end
    $body$;
  end if;

  if pg_catalog.to_regprocedure('realtime.broadcast_changes(text,text,text,text,text,record,record,text)') is null then
    create function realtime.broadcast_changes(
      topic_name text, event_name text, operation text, table_name text, table_schema text,
      new record, old record, level text default 'ROW')
    returns void language plpgsql as $body$
    begin
      if level = 'STATEMENT' then
        raise exception 'function can only be triggered for each row, not for each statement';
      end if;
      if operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
        raise exception 'Unexpected operation type: %', operation;
      end if;
      perform realtime.send(
        jsonb_build_object(
          'old_record', to_jsonb(old), 'record', to_jsonb(new),
          'operation', operation, 'table', table_name, 'schema', table_schema),
        event_name, topic_name);
    exception when others then
      raise exception 'Failed to process the row: %', sqlerrm;
    end
    $body$;
  end if;
end
$$;
