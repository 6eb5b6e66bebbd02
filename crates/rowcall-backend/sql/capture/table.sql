-- What capturing needs to know of a relation. $1 schema, $2 name; no row when there is none.
select c.oid,
       c.relkind::text,
       c.relispartition or exists (select from pg_catalog.pg_inherits where inhrelid = c.oid or inhparent = c.oid) as inherits,
       pg_catalog.pg_has_role(c.relowner, 'usage') as owned,
       array(
         select a.attname::text from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum
       ) as columns,
       array(
         select a.attname::text from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated::text = 'v' order by a.attnum
       ) as virtual_columns,
       coalesce((
         select array_agg(a.attname::text order by k.place)
           from (
             select i.indkey, i.indnkeyatts from pg_catalog.pg_index i
              where i.indrelid = c.oid and i.indisvalid and (i.indisprimary or i.indisreplident)
              order by i.indisprimary desc limit 1
           ) i
           cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
           join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
          where k.place <= i.indnkeyatts
       ), '{}') as key_columns,
       coalesce((
         select array_agg(x.relname::text order by x.relname)
           from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
          where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
            and i.indpred is null and i.indexprs is null
            and not exists (
              select from unnest(i.indkey::int2[]) k
                join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k where not a.attnotnull
            )
       ), '{}') as usable_indexes
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = $2
