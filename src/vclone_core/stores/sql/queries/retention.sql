-- name: take_lease
-- No row: somebody else holds it. $3 seconds; the holder extends its own.
insert into leases (name, holder, held_until) values ($1, $2, clock_timestamp() + make_interval(secs => $3))
on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until
where leases.holder = excluded.holder or leases.held_until < clock_timestamp()
returning name;

-- name: drop_lease
delete from leases where name = $1 and holder = $2;

-- name: list_kept_projects
-- Every project whose storage is not yet freed; those of one team, or of all.
select id, team_id, name, retention, deleted_at, deleted_at is not null as is_deleted
from projects
where freed_at is null and ($1::text is null or team_id = $1) and ($2::text is null or id = $2)
order by id;

-- name: fetch_retention
select retention from projects where id = $1 and deleted_at is null;

-- name: set_retention
update projects set retention = $2, updated_at = now() where id = $1 and deleted_at is null;

-- name: pin_deployment
update deployments set is_pinned = $2 where id = $1 returning *;

-- name: list_standings
select d.id, d.target, d.state, d.sequence, d.is_pinned, coalesce(d.finished_at, d.created_at) as ended_at,
    exists (select from aliases a where a.deployment_id = d.id and a.kind <> 'deployment') as is_shown
from deployments d
where d.project_id = $1;

-- name: lock_removable
-- A deployment that may go, as things stand under the lock of alias moves.
select d.id from deployments d
where d.id = $1 and not d.is_pinned and d.state not in ('queued', 'building')
  and not exists (select from aliases a where a.deployment_id = d.id and a.kind <> 'deployment')
for update of d;

-- name: remove_deployment_aliases
with gone as (
    delete from aliases where deployment_id = $1 returning host, kind, project_id
)
insert into alias_history (version, host, kind, project_id, previous_deployment_id, reason)
select nextval('alias_version'), host, kind, project_id, $1, $2 from gone
returning version;

-- name: delete_deployment
delete from deployments where id = $1;

-- name: list_marked
-- Every deployment of a project, with the list of its source; those with a manifest must have it.
select d.id, d.state, s.files
from deployments d
left join deployment_sources s on s.deployment_id = d.id
where d.project_id = $1;

-- name: fetch_collection_time
select clock_timestamp() as now;

-- name: list_unneeded
select sha256, size_bytes from blobs
where project_id = $1 and collected_at is null and (last_needed_at < $2 or collecting_since is not null);

-- name: list_blobs
select sha256 from blobs where project_id = $1 and collected_at is null;

-- name: begin_collecting
-- From here on the blobs count as missing. Who asked for one in the meantime keeps it.
update blobs set collecting_since = clock_timestamp()
where project_id = $1 and sha256 = any($2::text[]) and collected_at is null
  and (last_needed_at < $3 or collecting_since is not null)
returning sha256, size_bytes;

-- name: adopt_orphans
-- Objects without a row go the way of all blobs, so that nobody can begin to rely on them meanwhile.
insert into blobs (project_id, sha256, size_bytes, collecting_since)
select $1, sha256, size, clock_timestamp() from unnest($2::text[], $3::bigint[]) as new (sha256, size)
on conflict (project_id, sha256) do update set collecting_since = clock_timestamp(), collected_at = null
where blobs.collected_at is not null
returning sha256, size_bytes;

-- name: end_collecting
update blobs set collected_at = clock_timestamp()
where project_id = $1 and sha256 = any($2::text[]) and collecting_since is not null and collected_at is null;

-- name: forget_collected
-- No put that saw one of these objects can still be under way.
delete from blobs where project_id = $1 and collected_at < now() - interval '1 day';

-- name: count_unfinished
select count(*) as unfinished from deployments where project_id = $1 and state in ('queued', 'building');

-- name: delete_deployments_of_project
delete from deployments where project_id = $1;

-- name: delete_blobs_of_project
delete from blobs where project_id = $1;

-- name: mark_freed
update projects set freed_at = now() where id = $1 and deleted_at is not null;

-- name: list_between
-- The ready deployments of a project from one to another, in their order.
select d.* from deployments d
where d.project_id = $1 and d.state = 'ready' and d.sequence between $2 and $3
order by d.sequence;
