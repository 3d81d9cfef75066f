-- What the API keeps of requests: changes whose audit entry is still to come, and answers that are given again.

-- Written in the first transaction of a request that changes anything, and replaced by the audit entry once the request
-- is through: so no change is committed that the audit log doesn't come to know of, whenever the process is killed.
create table pending_changes (
    request_id text primary key,
    at timestamptz not null default clock_timestamp(),
    team_id text,
    actor_id text,
    action text not null,
    subject text not null,
    facts jsonb not null default '{}',
    address text not null
);
create index pending_changes_at on pending_changes (at);

-- One request with an `Idempotency-Key`, and its answer, sealed. `has_begun`: something may have been changed by it.
create table idempotency_keys (
    owner text not null,
    key_hash bytea not null,
    request_hash bytea not null,
    attempt text not null,
    lease_until timestamptz not null,
    has_begun boolean not null default false,
    answer bytea,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (owner, key_hash)
);
create index idempotency_keys_expires on idempotency_keys (expires_at);

-- What happens in a team, in the order of commits: its event stream reads it, its webhooks are sent it.
create table team_events (
    number bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    team_id text not null references teams on delete cascade,
    project_id text,
    kind text not null,
    facts jsonb not null
);
create index team_events_team on team_events (team_id, number);
create index team_events_at on team_events (at);

alter table webhooks
    add column created_by text references users on delete set null,
    -- Since when nothing that was sent arrived; null: the last one did.
    add column failing_since timestamptz,
    add column disabled_reason text;
create index webhooks_team on webhooks (team_id, id);

-- One event for one webhook, and every try to deliver it: [{"at", "status", "problem", "ms"}, ...].
create table webhook_sends (
    id bigint generated always as identity primary key,
    webhook_id text not null references webhooks on delete cascade,
    kind text not null,
    body jsonb not null,
    state text not null default 'waiting' check (state in ('waiting', 'delivered', 'failed')),
    -- The fencing token of whoever sends it, until `lease_until`.
    attempt integer not null default 0,
    lease_until timestamptz,
    not_before timestamptz not null default clock_timestamp(),
    tries jsonb not null default '[]',
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
create index webhook_sends_webhook on webhook_sends (webhook_id, id desc);
create index webhook_sends_due on webhook_sends (not_before) where state = 'waiting';

-- Writes an event, and a row for each webhook that wants it. Entries of one team wait for each other until their commit,
-- so that the order of numbers is the order of commits and whoever has seen one has missed none before it.
create function tell_team(team text, project text, what text, said jsonb) returns void language plpgsql as $$
declare
    told team_events;
begin
    perform pg_advisory_xact_lock(hashtextextended('events:' || team, 0));
    insert into team_events (team_id, project_id, kind, facts) values (team, project, what, said) returning * into told;
    insert into webhook_sends (webhook_id, kind, body)
    select w.id, what, jsonb_build_object('id', told.number, 'type', what, 'at', told.at, 'data', said)
    from webhooks w
    where w.team_id = team and w.disabled_at is null and (w.project_id is null or w.project_id = project)
      and what = any (w.events);
end
$$;

create function tell_of_deployment() returns trigger language plpgsql as $$
declare
    p projects;
begin
    select * into p from projects where id = new.project_id;
    perform tell_team(p.team_id, p.id,
        'deployment.' || case when tg_op = 'INSERT' then 'created' else new.state end,
        jsonb_build_object(
            'deployment_id', new.id, 'project_id', p.id, 'project', p.name, 'target', new.target, 'state', new.state,
            'trigger', new.trigger, 'ref', new.source ->> 'ref', 'sha', new.source ->> 'sha',
            'reason', new.reason, 'failure', new.failure ->> 'code'));
    return null;
end
$$;
-- Deferred: the lock is taken when everything else is done, and held for the commit alone.
create constraint trigger deployment_is_told after insert on deployments
    deferrable initially deferred for each row execute function tell_of_deployment();
create constraint trigger deployment_change_is_told after update on deployments
    deferrable initially deferred for each row
    when (old.state is distinct from new.state and new.state <> 'queued') execute function tell_of_deployment();

create function tell_of_move() returns trigger language plpgsql as $$
declare
    p projects;
begin
    select * into p from projects where id = new.project_id;
    perform tell_team(p.team_id, p.id, 'deployment.promoted', jsonb_build_object(
        'deployment_id', new.deployment_id, 'project_id', p.id, 'project', p.name, 'target', 'production',
        'previous_deployment_id', new.previous_deployment_id, 'reason', new.reason));
    return null;
end
$$;
create constraint trigger move_is_told after insert on alias_history
    deferrable initially deferred for each row
    when (new.kind = 'production' and new.reason in ('promote', 'rollback')) execute function tell_of_move();
