-- get_publications_full() -> a JSON array of all publications with their tables; partitions are shown as their parent.
create or replace function public.get_publications_full() returns json
language sql stable set search_path = '' as $$
  with member as (
    select distinct p.oid as publication,
           coalesce(parent_schema.nspname, schema.nspname) as schema,
           coalesce(parent.relname, child.relname) as "table"
      from pg_catalog.pg_publication p
      join pg_catalog.pg_publication_tables listed on listed.pubname = p.pubname
      join pg_catalog.pg_namespace schema on schema.nspname = listed.schemaname
      join pg_catalog.pg_class child on child.relname = listed.tablename and child.relnamespace = schema.oid
      left join pg_catalog.pg_inherits i on i.inhrelid = child.oid and child.relispartition
      left join pg_catalog.pg_class parent on parent.oid = i.inhparent
      left join pg_catalog.pg_namespace parent_schema on parent_schema.oid = parent.relnamespace
  )
  select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
      'pubname', p.pubname,
      'system_id', p.oid,
      'pubinsert', p.pubinsert,
      'pubupdate', p.pubupdate,
      'pubdelete', p.pubdelete,
      'pubtruncate', p.pubtruncate,
      'tables', coalesce((
        select pg_catalog.json_agg(pg_catalog.json_build_object('schema', m.schema, 'table', m."table")
            order by m.schema, m."table")
          from member m where m.publication = p.oid), '[]'::json)
    ) order by p.pubname), '[]'::json)
    from pg_catalog.pg_publication p
$$;
