-- What the local API remembers: who may call it, what apps may do, workspaces, and tasks that clients started by name.

-- The uuid of each app: what its x-app-id says. Random, so that knowing an app's name is not enough to be it.
create table app_ids (
    app text primary key references apps (name) on delete cascade,
    uuid text not null unique,
    created_at integer not null
) strict;

-- A person's (or the policy file's) decisions. No row: nobody has decided.
create table grants (
    app text not null references apps (name) on delete cascade,
    permission text not null,
    decision text not null check (decision in ('granted', 'denied')),
    decided_by text not null,
    decided_at integer not null,
    primary key (app, permission)
) strict, without rowid;

-- Questions that wait for a decision.
create table prompts (
    app text not null references apps (name) on delete cascade,
    permission text not null,
    asked_as text not null,
    asked_at integer not null,
    primary key (app, permission)
) strict, without rowid;

-- What was decided, by whom; kept when the app is gone.
create table permission_log (
    id integer primary key,
    at integer not null,
    app text not null,
    permission text not null,
    what text not null check (what in ('asked', 'granted', 'denied', 'reset')),
    decided_by text not null
) strict;
create index permission_log_by_app on permission_log (app, id);

-- How often a permission was used.
create table permission_uses (
    app text not null,
    permission text not null,
    uses integer not null,
    first_at integer not null,
    last_at integer not null,
    primary key (app, permission)
) strict, without rowid;

-- Developer keys, as SHA-256 of the key: keys are random or at least long, so a slow hash would add nothing.
create table api_keys (
    name text primary key,
    hash text not null unique,
    hint text not null,
    admin integer not null default 0 check (admin in (0, 1)),
    created_at integer not null,
    last_used_at integer,
    revoked_at integer
) strict;

create table workspaces (
    id integer primary key autoincrement,
    slug text not null unique,
    name text not null,
    type text not null default 'workspace',
    created_at integer not null,
    updated_at integer not null
) strict;

create table threads (
    id integer primary key autoincrement,
    workspace_id integer not null references workspaces (id) on delete cascade,
    slug text not null,
    name text not null,
    created_at integer not null,
    unique (workspace_id, slug)
) strict;

-- A client names a workspace when it starts an agent, so there is one from the beginning.
insert into workspaces (slug, name, created_at, updated_at)
values ('default', 'Default', unixepoch('subsec') * 1000, unixepoch('subsec') * 1000);
insert into threads (workspace_id, slug, name, created_at)
select id, 'general', 'General', created_at from workspaces;

-- Agents that were started by name: the engine claims their tasks as well.
create table named_agents (
    app text not null references apps (name) on delete cascade,
    agent text not null,
    since integer not null,
    primary key (app, agent)
) strict, without rowid;

-- Tasks that clients started by name. caller is the identity that the event id belongs to.
create table triggers (
    task_id text primary key,
    caller text not null,
    event_id text,
    attempt_id text,
    title text not null,
    source_app text not null,
    app text,
    agent text,
    workspace_slug text,
    thread_slug text,
    prompt text,
    capability_id text,
    auto_run integer not null check (auto_run in (0, 1)),
    created_at integer not null
) strict;
create unique index triggers_by_event on triggers (caller, event_id) where event_id is not null;
create index triggers_by_age on triggers (created_at);

-- Answers to task events, so that a repeat gets the first one again.
create table event_receipts (
    key text primary key,
    answer text not null,
    at integer not null
) strict, without rowid;
create index event_receipts_by_age on event_receipts (at);

-- Small values of the daemon: tokens that outlive it.
create table settings (
    name text primary key,
    value text not null
) strict, without rowid;

-- Who may do what; watched by the daemon.
insert into revisions (name, value) values ('access', 0);
create trigger access_app_added after insert on apps begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_app_changed after update on apps begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_app_removed after delete on apps begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_id_added after insert on app_ids begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_grant_added after insert on grants begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_grant_changed after update on grants begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_grant_removed after delete on grants begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_key_added after insert on api_keys begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_key_changed after update of hash, admin, revoked_at on api_keys begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger access_key_removed after delete on api_keys begin
    update revisions set value = value + 1 where name = 'access';
end;
create trigger apps_agent_named after insert on named_agents begin
    update revisions set value = value + 1 where name = 'apps';
end;
