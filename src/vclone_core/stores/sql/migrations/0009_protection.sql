-- Who may see a project's sites, besides everybody. No row: the project never had any protection.

create table project_protection (
    project_id text primary key references projects on delete cascade,
    covers text not null default 'off' check (covers in ('off', 'previews', 'everything')),
    password_hash text,
    -- What edges verify passes with, and what signs them, sealed: that never leaves the API.
    key text not null,
    signing_key bytea not null,
    -- Where the API asks visitors who they are: workers, which publish, needn't know.
    enter_url text not null,
    -- Passes of a lower generation have ended.
    members_generation integer not null default 1,
    password_generation integer not null default 1,
    -- The secret of automation, hashed twice: what a browser keeps of it is hashed once.
    bypass text,
    bypass_made_at timestamptz,
    updated_at timestamptz not null default now()
);

-- A link opens one host; it is gone with the host.
create table share_links (
    id text primary key,
    project_id text not null references projects on delete cascade,
    host text not null references aliases on delete cascade,
    name text not null default '',
    created_by text references users on delete set null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index share_links_project on share_links (project_id, id);
create index share_links_host on share_links (host);
