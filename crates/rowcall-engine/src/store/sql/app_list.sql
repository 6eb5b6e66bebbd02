-- All apps by name, or the one named ?1.
select name, manifest, enabled, added_at, updated_at from apps
where ?1 is null or name = ?1
order by name
