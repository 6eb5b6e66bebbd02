-- Roles a token may name: those granted to `authenticator`, and the three Supabase names; never a superuser, and only
-- those the connected role may take.
select r.rolname
  from pg_catalog.pg_roles r
 where not r.rolsuper
   and pg_catalog.pg_has_role(current_user, r.oid, 'member')
   and (r.rolname in ('anon', 'authenticated', 'service_role')
        or exists (
          select from pg_catalog.pg_auth_members m
            join pg_catalog.pg_roles a on a.oid = m.member
           where m.roleid = r.oid and a.rolname = 'authenticator'))
