-- Which tables write activities, and how. One row for each table that `rowcall setup` prepared; its triggers call the
-- function rowcall.capture_<number> that was made for it.
create sequence rowcall.capture_number as integer;
create table rowcall.captures (
  number integer primary key default nextval('rowcall.capture_number'),
  relation regclass not null unique,
  source text not null,
  events text[] not null,
  filter text,
  key_columns text[] not null,
  definition text not null,
  installed_at timestamptz not null default now()
);
comment on table rowcall.captures is 'Tables whose changes become tasks; written by rowcall setup.';

-- The signed-in user whose request writes a captured row, so that row level security shows the task to its owner. Null when
-- nobody is signed in, when the subject of the token is no uuid (tokens of other issuers), and when no such user is known:
-- capturing must not make a write fail that would succeed without it.
create function rowcall.signed_in_user() returns uuid
language plpgsql stable set search_path = '' as $$
declare
  subject text := coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
  );
  found uuid;
begin
  if subject is null or pg_catalog.to_regclass('auth.users') is null then
    return null;
  end if;
  select id into found from auth.users where id = subject::uuid;
  return found;
exception when others then
  return null;
end
$$;
