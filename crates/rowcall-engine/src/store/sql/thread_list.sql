-- Threads of a workspace, the oldest first. ?1 workspace slug
select threads.id, threads.slug, threads.name, threads.created_at
from threads join workspaces on workspaces.id = threads.workspace_id
where workspaces.slug = ?1
order by threads.id
