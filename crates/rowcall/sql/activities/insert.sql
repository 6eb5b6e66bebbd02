-- A new activity, as JSON. $1 raw data
insert into public.rtx_activities as a (raw_data) values ($1::text::jsonb)
returning {columns}
