-- Remembers a question; one that waits already stays. ?1 app, ?2 permission, ?3 asked as, ?4 now
insert into prompts (app, permission, asked_as, asked_at) values (?1, ?2, ?3, ?4)
on conflict do nothing
