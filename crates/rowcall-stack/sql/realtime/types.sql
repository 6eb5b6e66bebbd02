-- Names and structure of types, and of all types they are made of: $1 the types.
--
-- `element` is set for true arrays only, `base` for domains, `fields` for composites.
with recursive needed (oid) as (
  select pg_catalog.unnest($1::oid[])
  union
  select part.oid
    from needed
    join pg_catalog.pg_type t on t.oid = needed.oid
   cross join lateral (
     select t.typelem where t.typcategory = 'A' and t.typlen = -1 and t.oid not in (22, 30)
     union all
     select t.typbasetype where t.typtype = 'd'
     union all
     select a.atttypid
       from pg_catalog.pg_attribute a
      where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
   ) as part (oid)
   where part.oid <> 0
)
select t.oid,
       t.typname::text as name,
       pg_catalog.format_type(t.oid, null) as sql,
       case when t.typcategory = 'A' and t.typlen = -1 and t.oid not in (22, 30) then t.typelem end as element,
       (select e.typdelim::text from pg_catalog.pg_type e where e.oid = t.typelem) as delimiter,
       case when t.typtype = 'd' then t.typbasetype end as base,
       f.names,
       f.types
  from needed
  join pg_catalog.pg_type t on t.oid = needed.oid
  left join lateral (
    select pg_catalog.array_agg(a.attname::text order by a.attnum) as names,
           pg_catalog.array_agg(a.atttypid order by a.attnum) as types
      from pg_catalog.pg_attribute a
     where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
  ) as f on true
