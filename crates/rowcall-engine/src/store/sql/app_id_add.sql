-- Gives an app its uuid, unless it has one. ?1 app, ?2 uuid, ?3 now
insert into app_ids (app, uuid, created_at) values (?1, ?2, ?3)
on conflict do nothing
