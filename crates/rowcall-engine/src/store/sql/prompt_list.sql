-- Questions that wait, the oldest first.
select app, permission, asked_as, asked_at from prompts order by asked_at, app, permission
