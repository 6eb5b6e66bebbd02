-- Adds a workspace. ?1 slug, ?2 name, ?3 now
insert into workspaces (slug, name, created_at, updated_at) values (?1, ?2, ?3, ?3)
on conflict do nothing
