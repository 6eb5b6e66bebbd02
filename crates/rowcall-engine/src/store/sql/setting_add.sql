-- Stores a value, unless there is one. ?1 name, ?2 value
insert into settings (name, value) values (?1, ?2)
on conflict do nothing
