-- What is installed on a relation. $1 oid. No row when nothing was noted.
select c.number,
       c.definition,
       (select count(*) from pg_catalog.pg_trigger t
         where t.tgrelid = $1 and t.tgname in ('rowcall_capture_insert', 'rowcall_capture_update', 'rowcall_capture_delete')
           and t.tgenabled <> 'D')
  from rowcall.captures c
 where c.relation = $1::oid
