-- Forgets questions. ?1 app, ?2 permission or null for all
delete from prompts where app = ?1 and (?2 is null or permission = ?2)
