-- How often permissions were used. ?1 app or null
select app, permission, uses, first_at, last_at from permission_uses
where ?1 is null or app = ?1
order by app, permission
