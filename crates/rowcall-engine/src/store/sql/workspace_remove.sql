-- Removes a workspace and its threads. ?1 slug
delete from workspaces where slug = ?1
