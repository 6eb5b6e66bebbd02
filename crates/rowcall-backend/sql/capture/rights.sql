-- Whether what a capture function of this role inserts arrives.
select pg_catalog.has_table_privilege('public.rtx_activities', 'insert')
   and not pg_catalog.row_security_active('public.rtx_activities')
