-- The key pair by which a project's builds read its repository over SSH. `value` is the sealed private half; the hosts'
-- keys are in the form of ssh's known_hosts, learnt with the first connection or given.
create table deploy_keys (
    id text primary key,
    project_id text not null unique references projects on delete cascade,
    public_key text not null,
    value bytea not null,
    known_hosts text not null default '',
    created_at timestamptz not null default now()
);
