-- Removes a thread. ?1 workspace slug, ?2 slug
delete from threads where slug = ?2 and workspace_id = (select id from workspaces where slug = ?1)
