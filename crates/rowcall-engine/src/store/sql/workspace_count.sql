-- How many workspaces there are.
select count(*) from workspaces
