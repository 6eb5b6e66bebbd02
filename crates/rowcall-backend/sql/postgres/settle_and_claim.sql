-- One round trip, one commit: the settlements of the last batch and the claim of the next. Both see the same snapshot, so
-- nothing that is settled here is claimed here. The settlements are written first: the claim's limit asks for them. The last row carries the settled ids.
with settled as ({settle}),
     claimed as ({claim})
select c.*, null::uuid[] from claimed c
union all
select {nulls}, (select array_agg(s.id) from settled s)
