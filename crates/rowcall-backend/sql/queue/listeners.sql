-- Workers that listen to this database, by the names of their connections.
-- $1 text: what such names begin with; $2 bigint: how many at most. One row per worker: its name.
-- Connections of other roles are seen by members of pg_read_all_stats only.
select distinct substr(application_name, length($1::text) + 1) as name
from pg_stat_activity
where datname = current_database() and starts_with(application_name, $1::text)
order by 1
limit $2::bigint
