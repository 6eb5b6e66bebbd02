-- Every captured table: as it is called now, as its tasks are called, and whether its triggers are all there and enabled.
select n.nspname::text,
       t.relname::text,
       c.source,
       c.events,
       c.filter,
       c.key_columns,
       (select count(*) from pg_catalog.pg_trigger g
         where g.tgrelid = c.relation and g.tgname in ('rowcall_capture_insert', 'rowcall_capture_update', 'rowcall_capture_delete')
           and g.tgenabled <> 'D') >= cardinality(c.events) as active
  from rowcall.captures c
  left join pg_catalog.pg_class t on t.oid = c.relation
  left join pg_catalog.pg_namespace n on n.oid = t.relnamespace
 order by 1, 2
