-- Which pgmq is here. Contract: one row; `extension` the extension's version, `present` whether pgmq's functions exist,
-- `noted` the version we wrote into the schema's comment when we ran the SQL, or the one another installer recorded,
-- `available` whether the server offers the extension. Reads the catalogue only.
select (select e.extversion from pg_catalog.pg_extension e where e.extname = 'pgmq') as extension,
       pg_catalog.to_regprocedure('pgmq.send(text,jsonb,integer)') is not null as present,
       pg_catalog.substring(
         pg_catalog.obj_description(pg_catalog.to_regnamespace('pgmq')::oid, 'pg_namespace'),
         '^pgmq ([0-9.]+), installed as SQL') as noted,
       exists (select from pg_catalog.pg_available_extensions a where a.name = 'pgmq') as available
