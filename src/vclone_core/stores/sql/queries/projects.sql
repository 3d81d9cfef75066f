-- name: insert_project
insert into projects (id, team_id, name, git_url, settings) values ($1, $2, $3, $4, $5)
returning id, team_id, name, git_url, settings, is_publishing_paused, created_at;

-- name: fetch_project
-- By id or by name, within a team and, for a restricted member, within their projects ($3; null: all).
select id, team_id, name, git_url, settings, is_publishing_paused, created_at
from projects
where team_id = $1 and (id = $2 or name = $2) and deleted_at is null and ($3::text[] is null or id = any($3::text[]));

-- name: fetch_project_by_id
select id, team_id, name, git_url, settings, is_publishing_paused, created_at
from projects
where id = $1 and deleted_at is null;

-- name: list_projects
select id, team_id, name, git_url, settings, is_publishing_paused, created_at
from projects
where team_id = $1 and deleted_at is null and ($2::text is null or id < $2)
  and ($4::text[] is null or id = any($4::text[]))
order by id desc
limit $3;

-- name: update_project
update projects
set git_url = $3, settings = $4, is_publishing_paused = $5, updated_at = now()
where id = $1 and team_id = $2 and deleted_at is null
returning id, team_id, name, git_url, settings, is_publishing_paused, created_at;

-- name: pause_publishing
update projects set is_publishing_paused = $2, updated_at = now() where id = $1 and is_publishing_paused <> $2;

-- name: delete_project
update projects set deleted_at = now(), updated_at = now() where id = $1 and team_id = $2 and deleted_at is null;

-- name: take_sequence
-- The next number of the project's order of requests; no row when the project is gone.
update projects set last_sequence = last_sequence + 1
where id = $1 and deleted_at is null
returning last_sequence, settings,
    exists (select from deployments d where d.project_id = $1 and d.target = 'production'
            and d.state in ('queued', 'building', 'ready')) as has_production;

-- name: touch_blobs
-- Which of these blobs the project has. Each one told counts as needed now (to the hour, so that a deployment of
-- 25,000 known files writes nothing); one that is being collected is not told.
with due as (
    select sha256 from blobs
    where project_id = $1 and sha256 = any($2::text[]) and last_needed_at < now() - interval '1 hour'
), touched as (
    update blobs b set last_needed_at = now()
    from due
    where b.project_id = $1 and b.sha256 = due.sha256 and b.collecting_since is null
    returning b.sha256, b.size_bytes
)
select sha256, size_bytes from touched
union all
select sha256, size_bytes from blobs
where project_id = $1 and sha256 = any($2::text[]) and collecting_since is null
  and last_needed_at >= now() - interval '1 hour';

-- name: insert_blobs
-- Returns those that could be noted; their puts began at most $4 seconds ago. An object that was collected since, or is
-- being collected, may have been there when it was put and be gone now: it must be put again. A collection that is
-- silent for ten minutes has died.
insert into blobs (project_id, sha256, size_bytes)
select $1, sha256, size from unnest($2::text[], $3::bigint[]) as new (sha256, size)
on conflict (project_id, sha256) do update
set last_needed_at = now(), collecting_since = null, collected_at = null
where blobs.collecting_since is null
   or coalesce(blobs.collected_at, blobs.collecting_since + interval '10 minutes')
      < clock_timestamp() - make_interval(secs => $4)
returning sha256;

-- name: fetch_project_named
-- Whoever it belongs to: its host is taken also before its first deployment.
select id from projects where name = $1 and deleted_at is null;
