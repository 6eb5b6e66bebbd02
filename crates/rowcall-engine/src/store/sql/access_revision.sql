-- Grows when who may do what changes.
select value from revisions where name = 'access'
