-- Event triggers that tell REST servers (ours and PostgREST) to read the schema again after DDL: NOTIFY pgrst.
--
-- Names and bodies are those of a Supabase project, where both triggers exist and nothing happens here. Creating event
-- triggers needs a superuser; without one this does nothing, and schema changes are seen after `notify pgrst`.
do $$
begin
  if not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)
     or pg_catalog.to_regnamespace('extensions') is null then
    return;
  end if;

  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'pgrst_ddl_watch') then
    create or replace function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql as $body$
    declare
      cmd record;
    begin
      for cmd in select * from pg_event_trigger_ddl_commands() loop
        if cmd.command_tag in (
          'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
          'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW',
          'ALTER MATERIALIZED VIEW', 'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE TRIGGER', 'CREATE TYPE', 'ALTER TYPE',
          'CREATE RULE', 'COMMENT'
        ) and cmd.schema_name is distinct from 'pg_temp' then
          notify pgrst, 'reload schema';
        end if;
      end loop;
    end
    $body$;
    create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
  end if;

  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'pgrst_drop_watch') then
    create or replace function extensions.pgrst_drop_watch() returns event_trigger language plpgsql as $body$
    declare
      obj record;
    begin
      for obj in select * from pg_event_trigger_dropped_objects() loop
        if obj.object_type in (
          'schema', 'table', 'foreign table', 'view', 'materialized view', 'function', 'trigger', 'type', 'rule'
        ) and obj.is_temporary is false then
          notify pgrst, 'reload schema';
        end if;
      end loop;
    end
    $body$;
    create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();
  end if;
end
$$;
