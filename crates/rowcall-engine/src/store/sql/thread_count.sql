-- How many threads a workspace has. ?1 workspace slug
select count(*) from threads where workspace_id = (select id from workspaces where slug = ?1)
