-- name: claim_deployment
-- $1 worker, $2 lease in seconds, $3 builds at once per project, $4 after how many seconds a preview is as urgent
-- as production. Production first, then the team and the project that have waited longest for a start.
-- Two claims of one project may pick the same place: the unique index lets one through, and the other tries again.
with ranked as (
    select d.id, d.project_id, d.created_at, d.sequence, urgent.urgency,
        row_number() over (partition by d.project_id order by urgent.urgency desc, d.sequence) as turn
    from deployments d
    cross join lateral (
        select greatest(d.priority, (d.created_at < now() - make_interval(secs => $4))::int) as urgency
    ) urgent
    where d.state = 'queued' and d.not_before <= now()
), waiting as materialized (
    -- Each project's first ones, as many as it has places: no later one can be the next.
    select r.*, p.team_id, p.last_started_at
    from ranked r
    join projects p on p.id = r.project_id and p.deleted_at is null
    where r.turn <= $3
), teams as materialized (
    select team_id, max(last_started_at) as last_started_at
    from projects
    where team_id in (select team_id from waiting)
    group by team_id
), places as materialized (
    select w.project_id, min(s.slot) as slot
    from (select distinct project_id from waiting) w
    cross join generate_series(0, $3::int - 1) as s (slot)
    where not exists (
        select from deployments b where b.project_id = w.project_id and b.state = 'building' and b.slot = s.slot)
    group by w.project_id
), next as (
    select d.id, d.project_id, places.slot
    from waiting w
    join teams on teams.team_id = w.team_id
    join places on places.project_id = w.project_id
    join deployments d on d.id = w.id
    where d.state = 'queued'
    order by w.urgency desc, teams.last_started_at nulls first, w.last_started_at nulls first, w.created_at, w.sequence
    limit 1
    for no key update of d skip locked
), turn as (
    update projects set last_started_at = clock_timestamp() where id = (select project_id from next)
)
update deployments d
set state = $5, worker_id = $1, slot = next.slot, attempt = d.attempt + 1,
    lease_until = clock_timestamp() + make_interval(secs => $2),
    started_at = clock_timestamp(), step = null, step_seconds = '{}'
from next
join projects p on p.id = next.project_id
where d.id = next.id
returning d.*, p.team_id, p.name, p.git_url, p.settings, p.is_publishing_paused, p.created_at as project_created_at;

-- name: extend_lease
-- No row: this attempt no longer holds the build.
update deployments set lease_until = clock_timestamp() + make_interval(secs => $4)
where id = $1 and attempt = $2 and worker_id = $3 and state = 'building'
returning cancel_requested_at is not null as is_cancel_requested;

-- name: leave_building
-- Ends an attempt's hold on a build. $4 the new state, $5 is it final, $6 failure (without a step: in the one that
-- runs), $7 seconds of rest, $8 does it count as lost, $9 only when nobody asked to cancel, $10 only when the lease
-- ran out, $11 why it was skipped.
update deployments
set state = $4, slot = null, lease_until = null,
    failure = $6::jsonb || jsonb_build_object('step', coalesce($6::jsonb ->> 'step', step)),
    finished_at = case when $5 then clock_timestamp() end,
    not_before = clock_timestamp() + make_interval(secs => $7),
    lost_attempts = lost_attempts + $8::int, rung_at = null, reason = coalesce($11, reason)
where id = $1 and attempt = $2 and worker_id = $3 and state = 'building'
  and (not $9 or cancel_requested_at is null)
  and (not $10 or lease_until < clock_timestamp())
returning *;

-- name: publish_deployment
update deployments
set state = $4, slot = null, lease_until = null, finished_at = clock_timestamp(),
    framework = $5, file_count = $6, size_bytes = $7, manifest_sha256 = $8,
    step = $9, step_seconds = step_seconds || jsonb_build_object($9::text, $10::float8)
where id = $1 and attempt = $2 and worker_id = $3 and state = 'building' and cancel_requested_at is null
returning *;

-- name: cancel_queued
update deployments set state = $2, finished_at = now(), cancel_requested_at = coalesce(cancel_requested_at, now())
where id = $1 and state = 'queued'
returning *;

-- name: request_cancel
update deployments set cancel_requested_at = coalesce(cancel_requested_at, now())
where id = $1 and state = 'building'
returning *;

-- name: cancel_superseded
-- Older deployments of one branch that are not final: $2 the branch, $3 the production branch, which a deployment
-- without a ref is of, $6 why. Queued ones are cancelled here, building ones by their worker.
update deployments
set state = case when state = 'queued' then $7 else state end,
    finished_at = case when state = 'queued' then now() end,
    cancel_requested_at = coalesce(cancel_requested_at, now()), reason = $6
where id in (
    select id from deployments
    where project_id = $1 and state in ('queued', 'building') and source ->> 'kind' = 'git'
      and coalesce(source ->> 'ref', $3) = coalesce($2, $3) and target = $4 and sequence < $5
    order by id
    for no key update)
returning *;

-- name: skip_queued
update deployments set state = $2, finished_at = now(), reason = $3
where id = $1 and state = 'queued'
returning *;

-- name: cancel_orphans
-- Queued deployments of deleted projects.
update deployments set state = $1, finished_at = now(), cancel_requested_at = now()
where id in (
    select d.id from deployments d join projects p on p.id = d.project_id
    where d.state = 'queued' and p.deleted_at is not null
    for no key update of d skip locked)
returning *;

-- name: request_cancel_of_project
update deployments set cancel_requested_at = coalesce(cancel_requested_at, now())
where project_id = $1 and state = 'building'
returning id;

-- name: list_expired
select * from deployments where state = 'building' and lease_until < now() order by lease_until limit 100;

-- name: list_unrung
-- Queued, ready to start, and not rung for lately: the ring, or the list it lay in, was lost.
update deployments set rung_at = now()
where id in (
    select id from deployments
    where state = 'queued' and not_before <= now() and (rung_at is null or rung_at < now() - make_interval(secs => $1))
    order by priority desc, created_at
    limit 200
    for no key update skip locked)
returning id, project_id, priority;

-- name: fetch_queue_place
-- An estimate: teams take turns, so each team's first waits before each team's second.
select position, project_builds, rest_s from (
    select turn.id,
        row_number() over (order by turn.is_resting, turn.urgency desc, turn.round, turn.created_at, turn.id) as position,
        greatest(0, extract(epoch from turn.not_before - now()))::float8 as rest_s,
        (select count(*) from deployments b where b.project_id = turn.project_id and b.state = 'building')
            as project_builds
    from (
        select d.id, d.project_id, d.created_at, d.not_before, d.not_before > now() as is_resting,
            greatest(d.priority, (d.created_at < now() - make_interval(secs => $2))::int) as urgency,
            row_number() over (partition by p.team_id order by d.priority desc, d.created_at, d.id) as round
        from deployments d
        join projects p on p.id = d.project_id and p.deleted_at is null
        where d.state = 'queued'
    ) turn
) placed
where id = $1;

-- name: list_building
select id, attempt from deployments where state = 'building';

-- name: record_step
update deployments set step = coalesce($4, step), step_seconds = step_seconds || $5::jsonb
where id = $1 and attempt = $2 and worker_id = $3 and state = 'building';

-- name: record_findings
-- What the build learnt on its way: the framework, and which commit the ref turned out to be.
update deployments set framework = coalesce($4, framework), source = source || $5::jsonb
where id = $1 and attempt = $2 and worker_id = $3 and state = 'building';
