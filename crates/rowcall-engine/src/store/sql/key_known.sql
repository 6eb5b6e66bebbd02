-- Whether a key was ever added. ?1 hash
select 1 from api_keys where hash = ?1
