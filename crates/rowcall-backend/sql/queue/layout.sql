-- What the tables of queues look like in this database, which depends on the version of pgmq that made them.
-- $1: queue names. Contract: one row per name, in order; a queue that is not there has `queue` false. Reads the catalogue only.
select q.relation is not null as queue,
       a.relation is not null as archive,
       exists (select from pg_catalog.pg_attribute c
                where c.attrelid = q.relation and c.attname = 'last_read_at' and not c.attisdropped) as last_read_at,
       exists (select from pg_catalog.pg_attribute c
                where c.attrelid = q.relation and c.attname = 'headers' and not c.attisdropped) as headers,
       pg_catalog.to_regprocedure('pgmq.read_grouped(text,integer,integer)') is not null as read_grouped,
       pg_catalog.to_regprocedure('pgmq.read_grouped_rr(text,integer,integer)') is not null as read_grouped_rr,
       pg_catalog.to_regprocedure('pgmq.read_grouped_head(text,integer,integer)') is not null as read_grouped_head
  from unnest($1::text[]) with ordinality as n(name, at)
  cross join lateral (
    select pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.lower('q_' || n.name))) as relation) q
  cross join lateral (
    select pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pg_catalog.lower('a_' || n.name))) as relation) a
 order by n.at
