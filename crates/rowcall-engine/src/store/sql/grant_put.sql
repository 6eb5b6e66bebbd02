-- Stores a decision. ?1 app, ?2 permission, ?3 decision, ?4 decided by, ?5 now
insert into grants (app, permission, decision, decided_by, decided_at) values (?1, ?2, ?3, ?4, ?5)
on conflict (app, permission) do update set
    decision = excluded.decision, decided_by = excluded.decided_by, decided_at = excluded.decided_at
