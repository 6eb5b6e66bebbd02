-- Adds an app or replaces its manifest; whether it is enabled stays as it was.
-- ?1 name, ?2 manifest, ?3 now
insert into apps (name, manifest, added_at, updated_at) values (?1, ?2, ?3, ?3)
on conflict (name) do update set manifest = excluded.manifest, updated_at = excluded.updated_at
