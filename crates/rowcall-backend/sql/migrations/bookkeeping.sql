-- Where migrations are noted; runs with the first of them.
create schema if not exists rowcall;
comment on schema rowcall is 'rowcall: claims, captures and wake-ups. Made by `rowcall db migrate`.';
create table if not exists rowcall.migrations (
  version integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now()
);
create table if not exists rowcall.functions (
  signature text primary key,
  file_checksum text not null,
  body_checksum text not null,
  installed_at timestamptz not null default now()
);
comment on table rowcall.functions is 'Published functions in public that rowcall installed, to tell them from those of others.';
