-- Every table of the platform. Ids are text made by ids.py; times are the database's.

create table users (
    id text primary key,
    email text not null,
    name text not null default '',
    password_hash text,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);
create unique index users_email on users (lower(email));

create table identities (
    provider text not null,
    subject text not null,
    user_id text not null references users on delete cascade,
    email text,
    created_at timestamptz not null default now(),
    primary key (provider, subject)
);
create index identities_user on identities (user_id);

create table sessions (
    id text primary key,
    user_id text not null references users on delete cascade,
    family text not null,
    token_hash bytea not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    revoked_at timestamptz,
    user_agent text not null default '',
    address text not null default ''
);
create index sessions_user on sessions (user_id);
create index sessions_family on sessions (family);

create table sign_in_links (
    token_hash bytea primary key,
    user_id text not null references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);

create table teams (
    id text primary key,
    slug text not null unique,
    name text not null,
    is_personal boolean not null default false,
    created_at timestamptz not null default now()
);

create table team_members (
    team_id text not null references teams on delete cascade,
    user_id text not null references users on delete cascade,
    role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
    created_at timestamptz not null default now(),
    primary key (team_id, user_id)
);
create index team_members_user on team_members (user_id);

create table invitations (
    id text primary key,
    team_id text not null references teams on delete cascade,
    email text not null,
    role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
    token_hash bytea not null unique,
    invited_by text references users on delete set null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    accepted_at timestamptz
);

create table projects (
    id text primary key,
    team_id text not null references teams,
    name text not null,
    git_url text,
    settings jsonb not null default '{}',
    is_publishing_paused boolean not null default false,
    last_sequence bigint not null default 0,
    -- When a build of it was last started: whoever waited longest is next.
    last_started_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index projects_name on projects (name) where deleted_at is null;
create index projects_team on projects (team_id, id);

create table deployments (
    id text primary key,
    project_id text not null references projects,
    target text not null check (target in ('production', 'preview')),
    state text not null default 'queued'
        check (state in ('queued', 'building', 'ready', 'failed', 'cancelled', 'skipped')),
    source jsonb not null,
    -- What this one deployment says otherwise than its project's settings.
    overrides jsonb not null default '{}',
    -- The order of requests within a project: an older one never overtakes a newer one.
    sequence bigint not null,
    priority smallint not null default 0,
    created_by text references users on delete set null,
    created_at timestamptz not null default now(),
    not_before timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz,
    -- The queue: who builds, until when without news, and which start this is (the fencing token).
    worker_id text,
    -- Which of the project's build places it holds, 0 to the project's limit - 1; the unique index below is the limit.
    slot smallint,
    lease_until timestamptz,
    attempt integer not null default 0,
    -- How many attempts ended with a lost worker; giving a build back on a graceful stop is no loss.
    lost_attempts integer not null default 0,
    cancel_requested_at timestamptz,
    rung_at timestamptz,
    -- Lines stored and bytes received so far, of all attempts: the next number, and the cap.
    log_lines integer not null default 0,
    log_bytes bigint not null default 0,
    step text,
    step_seconds jsonb not null default '{}',
    failure jsonb,
    framework text,
    file_count integer,
    size_bytes bigint,
    manifest_sha256 text,
    is_pinned boolean not null default false,
    unique (project_id, sequence)
);
create index deployments_project on deployments (project_id, id desc);
create index deployments_queue on deployments (priority desc, sequence) where state = 'queued';
create unique index deployments_building on deployments (project_id, slot) where state = 'building';
create index deployments_lease on deployments (lease_until) where state = 'building';

create table build_logs (
    deployment_id text not null references deployments on delete cascade,
    number integer not null,
    attempt integer not null,
    step text not null,
    stream text not null,
    text text not null,
    at timestamptz not null default now(),
    primary key (deployment_id, number)
);

create table deployment_functions (
    deployment_id text not null references deployments on delete cascade,
    name text not null,
    runtime text not null,
    settings jsonb not null default '{}',
    primary key (deployment_id, name)
);

create table blobs (
    project_id text not null references projects,
    sha256 text not null,
    size_bytes bigint not null,
    created_at timestamptz not null default now(),
    -- Touched whenever a client or worker was told "this one is here": collection keeps what was asked for lately.
    last_needed_at timestamptz not null default now(),
    primary key (project_id, sha256)
);

-- The version of an alias move. Moves are serialised (see publish in deployments.sql), so the order of versions is the
-- order of commits, and an edge that has seen version n has seen all before it.
create sequence alias_version;

create table aliases (
    host text primary key,
    project_id text not null references projects,
    deployment_id text not null references deployments,
    kind text not null check (kind in ('production', 'deployment', 'branch', 'custom')),
    branch text,
    version bigint not null,
    updated_at timestamptz not null default now()
);
create unique index aliases_one_production on aliases (project_id) where kind = 'production';
create index aliases_deployment on aliases (deployment_id);
create index aliases_project on aliases (project_id);

create table alias_history (
    version bigint primary key,
    host text not null,
    kind text not null,
    project_id text not null,
    deployment_id text,
    previous_deployment_id text,
    reason text not null,
    actor_id text,
    -- What the edges are sent: the site as JSON, null when the host is gone.
    site jsonb,
    at timestamptz not null default now()
);
create index alias_history_production on alias_history (project_id, version desc) where kind = 'production';

create table domains (
    id text primary key,
    project_id text not null references projects on delete cascade,
    host text not null,
    token text not null,
    redirect_to text,
    verified_at timestamptz,
    checked_at timestamptz,
    problem text,
    created_at timestamptz not null default now()
);
create unique index domains_one_verified on domains (host) where verified_at is not null;
create unique index domains_project_host on domains (project_id, host);

create table environment_variables (
    id text primary key,
    project_id text not null references projects on delete cascade,
    key text not null,
    target text not null check (target in ('production', 'preview', 'development')),
    branch text not null default '',
    value bytea not null,
    is_sensitive boolean not null default false,
    is_build boolean not null default true,
    is_run boolean not null default true,
    version integer not null default 1,
    updated_at timestamptz not null default now(),
    unique (project_id, key, target, branch)
);

create table git_tokens (
    id text primary key,
    team_id text not null references teams on delete cascade,
    host text not null,
    account text not null default '',
    value bytea not null,
    created_at timestamptz not null default now()
);

create table webhooks (
    id text primary key,
    team_id text not null references teams on delete cascade,
    project_id text references projects on delete cascade,
    url text not null,
    events text[] not null,
    secret bytea not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);

create table webhook_deliveries (
    provider text not null,
    delivery_id text not null,
    event text not null,
    project_id text,
    body_sha256 text not null,
    outcome text,
    received_at timestamptz not null default now(),
    primary key (provider, delivery_id)
);

create table api_tokens (
    id text primary key,
    user_id text not null references users on delete cascade,
    team_id text not null references teams on delete cascade,
    name text not null,
    token_hash bytea not null unique,
    scopes text[] not null default '{}',
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

create table certificates (
    id text primary key,
    host text not null,
    issuer text not null,
    chain text not null,
    private_key bytea not null,
    not_after timestamptz not null,
    created_at timestamptz not null default now()
);
create index certificates_host on certificates (host, not_after desc);

create table audit_log (
    number bigint generated always as identity primary key,
    at timestamptz not null default now(),
    team_id text,
    actor_id text,
    action text not null,
    subject text not null,
    facts jsonb not null default '{}',
    request_id text,
    address text,
    previous_hash bytea,
    hash bytea
);
create index audit_log_team on audit_log (team_id, number desc);

create table usage (
    project_id text not null references projects on delete cascade,
    hour timestamptz not null,
    metric text not null,
    value bigint not null,
    primary key (project_id, hour, metric)
);
