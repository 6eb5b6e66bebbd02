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
