-- Counts uses. ?1 app, ?2 permission, ?3 how many, ?4 now
insert into permission_uses (app, permission, uses, first_at, last_at) values (?1, ?2, ?3, ?4, ?4)
on conflict (app, permission) do update set uses = uses + excluded.uses, last_at = excluded.last_at
