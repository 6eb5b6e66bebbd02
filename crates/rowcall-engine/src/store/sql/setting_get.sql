-- A stored value. ?1 name
select value from settings where name = ?1
