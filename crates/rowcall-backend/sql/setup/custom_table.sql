
alter table {table}
  add column if not exists status text default 'pending', -- pending, claimed, processing, completed, failed
  add column if not exists locked_by text,
  add column if not exists locked_at timestamptz,
  add column if not exists attempted_by text[] default '{{}}',
  add column if not exists retry_count integer default 0,
  add column if not exists error_message text,
  add column if not exists completed_at timestamptz,
  add column if not exists result jsonb;
