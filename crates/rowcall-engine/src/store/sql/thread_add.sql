-- Adds a thread. ?1 workspace slug, ?2 slug, ?3 name, ?4 now
insert into threads (workspace_id, slug, name, created_at)
select id, ?2, ?3, ?4 from workspaces where slug = ?1
on conflict do nothing
