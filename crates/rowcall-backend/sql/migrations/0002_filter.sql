-- rowcall.iso_instant(text): microseconds since 1970 in UTC of an ISO 8601 date or time, null for any other text.
--
-- Filters compare such texts as instants. The daemon reads exactly the same texts in memory (rowcall-core, filter/instant.rs):
-- YYYY-MM-DD, then optionally T or a space and hh:mm[:ss[.fraction]], then optionally Z, ±hh, ±hhmm or ±hh:mm. Years 1 to 9999,
-- offsets up to ±15:59, no leap seconds, digits beyond microseconds cut off. Never raises.
create function rowcall.iso_instant(value text) returns bigint
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  part text[];
  month integer;
  day integer;
  micros bigint;
begin
  -- Most texts are no dates: the cheap look comes first.
  if pg_catalog.length(value) not between 10 and 35 or pg_catalog.substr(value, 5, 1) <> '-' then
    return null;
  end if;
  part := pg_catalog.regexp_match(value,
    '^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[-+][0-9]{2}(?::?[0-9]{2})?)?)?$');
  if part is null or part[1] = '0000' then
    return null;
  end if;
  month := part[2];
  day := part[3];
  if month not between 1 and 12 or day < 1 then
    return null;
  end if;
  if day > pg_catalog.date_part('day',
    pg_catalog.make_date(part[1]::integer, month, 1) + interval '1 month' - interval '1 day') then
    return null;
  end if;
  micros := (pg_catalog.make_date(part[1]::integer, month, day) - date '1970-01-01')::bigint * 86400000000;
  if part[4] is null then
    return micros;
  end if;
  if part[4] > '23' or part[5] > '59' or part[6] > '59' then
    return null;
  end if;
  micros := micros
    + ((part[4]::bigint * 60 + part[5]::bigint) * 60 + coalesce(part[6]::bigint, 0)) * 1000000
    + coalesce(pg_catalog.rpad(pg_catalog.left(part[7], 6), 6, '0')::bigint, 0);
  if part[8] is null or part[8] = 'Z' then
    return micros;
  end if;
  part[8] := pg_catalog.replace(part[8], ':', '');
  if pg_catalog.substr(part[8], 2, 2) > '15' or pg_catalog.substr(part[8], 4, 2) > '59' then
    return null;
  end if;
  return micros - (pg_catalog.left(part[8], 1) || '1')::bigint * 60000000
    * (pg_catalog.substr(part[8], 2, 2)::bigint * 60 + coalesce(nullif(pg_catalog.substr(part[8], 4, 2), '')::bigint, 0));
end
$$;
