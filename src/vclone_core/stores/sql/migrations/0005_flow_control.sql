-- What asked for a deployment, and why it was skipped or what took its place.
alter table deployments
    add column trigger text not null default 'request' check (trigger in ('request', 'push', 'hook', 'redeploy')),
    add column reason text;

-- Secret URLs that deploy a branch. The window counts calls, against floods.
create table deploy_hooks (
    id text primary key,
    project_id text not null references projects on delete cascade,
    name text not null,
    branch text not null,
    token_hash bytea not null unique,
    created_by text references users on delete set null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    window_started_at timestamptz,
    window_calls integer not null default 0
);
create index deploy_hooks_project on deploy_hooks (project_id, id);
