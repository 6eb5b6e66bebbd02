-- The local store of one machine. Times are unix milliseconds, UTC.

-- The local apps: their manifests as they were given.
create table apps (
    name text primary key,
    manifest text not null,
    enabled integer not null default 1 check (enabled in (0, 1)),
    added_at integer not null,
    updated_at integer not null
) strict;

-- Counters that other processes watch.
create table revisions (
    name text primary key,
    value integer not null
) strict;
insert into revisions (name, value) values ('apps', 0);

create trigger apps_added after insert on apps begin
    update revisions set value = value + 1 where name = 'apps';
end;
create trigger apps_changed after update on apps begin
    update revisions set value = value + 1 where name = 'apps';
end;
create trigger apps_removed after delete on apps begin
    update revisions set value = value + 1 where name = 'apps';
end;

-- Every task this machine has seen, each once.
create table calendar (
    id integer primary key,
    task_table text not null,
    task_id text not null,
    source_table text not null,
    event text not null,
    app text not null,
    agent text not null,
    trigger text not null,
    state text not null,
    attempt integer,
    error text,
    seen_at integer not null,
    updated_at integer not null,
    scheduled_for integer,
    -- Looked up by id alone as well.
    unique (task_id, task_table)
) strict;
-- Few entries are in these states; every other write is spared an index.
create index calendar_waiting on calendar (scheduled_for) where state = 'waiting';
create index calendar_running on calendar (id) where state = 'running';

-- Every attempt this machine has made.
create table attempts (
    id integer primary key,
    task_table text not null,
    task_id text not null,
    attempt integer not null,
    app text,
    agent text,
    machine text,
    started_at integer not null,
    ended_at integer,
    outcome text,
    error text,
    log_lines integer not null default 0,
    log_bytes integer not null default 0,
    -- The lines between the kept head and tail that were thrown away.
    cut_after integer,
    cut_lines integer not null default 0,
    cut_bytes integer not null default 0,
    unique (task_id, task_table, attempt)
) strict;
create index attempts_open on attempts (id) where ended_at is null;

-- What agents printed: stream 1 is standard output, 2 standard error.
create table log_lines (
    attempt_id integer not null references attempts (id) on delete cascade,
    seq integer not null,
    at integer not null,
    stream integer not null check (stream in (1, 2)),
    line text not null,
    primary key (attempt_id, seq)
) strict, without rowid;
