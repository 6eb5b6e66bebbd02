-- Gives a workspace another name. ?1 slug, ?2 name, ?3 now
update workspaces set name = ?2, updated_at = ?3 where slug = ?1
