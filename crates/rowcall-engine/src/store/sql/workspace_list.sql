-- Workspaces, the oldest first. ?1 slug or null
select id, slug, name, type, created_at from workspaces
where ?1 is null or slug = ?1
order by id
