-- A task that a client started by naming an agent; a repeat changes nothing.
-- $1 id, $2 raw data, $3 the table that stands for app and agent, $4 what the client said beside the data
insert into public.rtx_activities (id, raw_data, source_table, source_event, source_key)
values ($1, $2::text::jsonb, $3, 'INSERT', $4::text::jsonb)
on conflict (id) do nothing
