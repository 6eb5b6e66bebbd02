-- How many permissions of an app are decided or asked for. ?1 app
select (select count(*) from grants where app = ?1) + (select count(*) from prompts where app = ?1)
