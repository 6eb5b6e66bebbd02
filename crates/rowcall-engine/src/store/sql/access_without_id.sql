-- Apps that have no uuid yet.
select name from apps where name not in (select app from app_ids)
