-- Git hosts: which repository a project follows, what its host told us, and what we tell it.

-- An App at a git host, made from here (GitHub's manifest flow): one secret and one key for all its repositories.
create table git_apps (
    id text primary key,
    team_id text not null references teams on delete cascade,
    host text not null,
    api_url text not null,
    -- The host's own id and name of it; both null until the person came back from the host.
    app_id text,
    slug text,
    url text,
    state_hash bytea unique,
    created_by text references users on delete set null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    unique (host, api_url, app_id)
);

-- One project follows one repository; a repository may be followed by many projects, also of other teams.
create table git_connections (
    id text primary key,
    project_id text not null unique references projects on delete cascade,
    host text not null,
    api_url text not null,
    repository text not null,
    account text not null default '',
    git_app_id text references git_apps on delete cascade,
    created_by text references users on delete set null,
    created_at timestamptz not null default now()
);
create index git_connections_app on git_connections (git_app_id, lower(repository));

-- Secrets of connections and Apps, sealed. A new value has a new id: it is what the value is sealed for.
create table git_secrets (
    id text primary key,
    owner_id text not null,
    name text not null check (name in ('webhook', 'token', 'key')),
    value bytea not null,
    unique (owner_id, name)
);

-- Nothing has written this table before. An id counts within one secret: whoever knows another one can't use ids up.
alter table webhook_deliveries
    drop constraint webhook_deliveries_pkey,
    add column number bigint generated always as identity primary key,
    add column connection_id text references git_connections on delete cascade,
    -- The frozen event as JSON, and the branch it is about.
    add column data jsonb not null default '{}',
    add column ref text,
    add column state text not null default 'waiting' check (state in ('waiting', 'done', 'failed')),
    add column detail text not null default '',
    add column deployment_id text,
    add column attempt integer not null default 0,
    add column not_before timestamptz not null default now(),
    add column done_at timestamptz,
    add constraint webhook_deliveries_id unique (connection_id, delivery_id);
create index webhook_deliveries_waiting on webhook_deliveries (connection_id, number) where state = 'waiting';
create index webhook_deliveries_body on webhook_deliveries (connection_id, body_sha256);

create table pull_requests (
    project_id text not null references projects on delete cascade,
    number integer not null,
    is_open boolean not null,
    title text not null default '',
    author text not null default '',
    head_repository text not null,
    head_url text,
    head_ref text not null,
    head_sha text not null,
    is_fork boolean not null,
    -- What its deployments have as their ref: the branch, and for a fork a name that no branch of the project has.
    preview_ref text not null,
    -- A fork's commit that a member of the team has approved.
    approved_sha text,
    approved_by text references users on delete set null,
    -- By the host's clock: events may arrive in another order.
    changed_at timestamptz,
    created_at timestamptz not null default now(),
    closed_at timestamptz,
    primary key (project_id, number)
);
create index pull_requests_ref on pull_requests (project_id, preview_ref) where is_open;

-- What the host is to be told: a commit's status, an entry for a deployment, a pull request's comment. What exactly is
-- found out when it is told; `wanted` only says whether that is something new.
create table git_reports (
    project_id text not null references projects on delete cascade,
    part text not null check (part in ('status', 'entry', 'comment')),
    subject text not null,
    wanted text not null,
    told text,
    remote_id text,
    state text not null default 'waiting' check (state in ('waiting', 'done', 'failed')),
    problem text not null default '',
    attempt integer not null default 0,
    not_before timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (project_id, part, subject)
);
create index git_reports_waiting on git_reports (not_before) where state = 'waiting';

-- Of which commit, and of which branch, a deployment is.
create index deployments_commit on deployments (project_id, (source ->> 'sha'));
create index deployments_ref on deployments (project_id, (source ->> 'ref'), sequence desc);
