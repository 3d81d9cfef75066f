-- People: passwords and their sessions, refresh tokens, project-level access, sign-in by providers and by code, and an
-- audit log that can only grow.

-- A session without a cookie (signed in over the API) has no token of its own: its refresh tokens are below.
alter table sessions alter column token_hash drop not null;
alter table sessions add column kind text not null default 'browser' check (kind in ('browser', 'api'));
alter table sessions add column team_id text references teams on delete set null;
alter table sessions add column seen_at timestamptz not null default now();

create table refresh_tokens (
    token_hash bytea primary key,
    session_id text not null references sessions on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_tokens_session on refresh_tokens (session_id);

alter table teams add column deleted_at timestamptz;
-- Whose own team it is: others may be members of it, and stand in their own all the same.
alter table teams add column personal_of text references users on delete set null;
update teams t set personal_of = (select m.user_id from team_members m where m.team_id = t.id and m.role = 'owner'
                                  order by m.created_at, m.user_id limit 1)
where t.is_personal;

-- A restricted member sees the projects that are listed for them, and nothing else of the team's.
alter table team_members add column is_restricted boolean not null default false;
create table member_projects (
    team_id text not null,
    user_id text not null,
    project_id text not null references projects on delete cascade,
    primary key (team_id, user_id, project_id),
    foreign key (team_id, user_id) references team_members (team_id, user_id) on delete cascade
);

-- Who acts where: one row for each team a user who may sign in is a member of. `projects` null: all of the team's.
create view memberships as
select m.user_id, m.team_id, t.slug, coalesce(t.personal_of = m.user_id, false) as is_own, t.created_at as team_created_at, m.role,
       case when m.is_restricted then
           array(select p.project_id from member_projects p where p.team_id = m.team_id and p.user_id = m.user_id)
       end as projects
from team_members m
join teams t on t.id = m.team_id and t.deleted_at is null
join users u on u.id = m.user_id and u.disabled_at is null;

alter table invitations add column revoked_at timestamptz;
create index invitations_team on invitations (team_id, id desc);

-- One try to sign in with a provider. `browser_hash` is of a cookie: another browser can't finish it.
create table provider_attempts (
    state_hash bytea primary key,
    browser_hash bytea not null,
    provider text not null,
    invitation_hash bytea,
    user_id text references users on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz
);

-- One `vclone login`: the CLI holds the device code, a person confirms the user code.
create table device_logins (
    device_hash bytea primary key,
    user_code text not null unique,
    client text not null default '',
    address text not null default '',
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    user_id text references users on delete cascade,
    team_id text references teams on delete cascade,
    denied_at timestamptz,
    used_at timestamptz
);

create index api_tokens_team on api_tokens (team_id, id desc);

-- The audit log only grows: rows are chained by hash for each team, and the table itself refuses what is no insert.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is append-only' using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_log_is_append_only before update or delete or truncate on audit_log
    for each statement execute function refuse_audit_change();
