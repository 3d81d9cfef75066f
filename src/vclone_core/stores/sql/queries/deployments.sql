-- name: insert_deployment
-- It counts as rung for: after the ring nothing may write to the row, or the worker that was woken finds it locked.
insert into deployments (id, project_id, target, source, overrides, sequence, priority, created_by, trigger, rung_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now())
returning *;

-- name: insert_source_files
insert into deployment_sources (deployment_id, files) values ($1, $2);

-- name: copy_source_files
-- Another deployment of the same source: no row when its list is gone.
insert into deployment_sources (deployment_id, files)
select $2, files from deployment_sources where deployment_id = $1;

-- name: fetch_source_files
select files from deployment_sources where deployment_id = $1;

-- name: fetch_deployment
-- By id or by the host of one of its aliases, within a team and, for a restricted member, their projects ($3).
select d.*
from deployments d
join projects p on p.id = d.project_id
where p.team_id = $1 and p.deleted_at is null and ($3::text[] is null or p.id = any($3::text[]))
  and d.id = coalesce((select a.deployment_id from aliases a where a.host = $2), $2);

-- name: fetch_deployment_by_id
select * from deployments where id = $1;

-- name: fetch_previous_commit
-- The commit that a push is compared with: of the newest ready deployment of its branch before it ($2, or the
-- production branch $3 where none is named), else of what production shows.
select coalesce(
    (select d.source ->> 'sha' from deployments d
     where d.project_id = $1 and d.state = 'ready' and d.source ->> 'kind' = 'git' and d.sequence < $4
       and coalesce(d.source ->> 'ref', $3) = coalesce($2, $3)
     order by d.sequence desc limit 1),
    (select d.source ->> 'sha' from aliases a join deployments d on d.id = a.deployment_id
     where a.project_id = $1 and a.kind = 'production' and d.source ->> 'kind' = 'git')) as sha;

-- name: list_deployments
select d.*
from deployments d
join projects p on p.id = d.project_id
where p.team_id = $1 and p.deleted_at is null
  and ($2::text is null or d.project_id = $2)
  and ($3::text is null or d.state = $3)
  and ($4::text is null or d.id < $4)
  and ($6::text[] is null or d.project_id = any($6::text[]))
order by d.id desc
limit $5;

-- name: lock_aliases
-- Every change of an alias takes this lock until its commit, so that the order of versions is the order of commits.
select pg_advisory_xact_lock($1);

-- name: lock_deployment
select * from deployments where id = $1 for no key update;

-- name: fetch_standing
-- Which deployment holds the project's production alias and the alias of one branch, and the project's own domains: those
-- that show production, and those that show that branch.
select
    (select d.sequence from aliases a join deployments d on d.id = a.deployment_id
     where a.project_id = $1 and a.kind = 'production') as production_sequence,
    (select a.deployment_id from aliases a where a.project_id = $1 and a.kind = 'production') as production_id,
    (select max(d.sequence) from aliases a join deployments d on d.id = a.deployment_id
     where a.project_id = $1 and a.kind = 'branch' and a.branch = $2) as branch_sequence,
    (select a.deployment_id from aliases a join deployments d on d.id = a.deployment_id
     where a.project_id = $1 and a.kind = 'branch' and a.branch = $2
     order by d.sequence desc limit 1) as branch_id,
    array(select host from domains
          where project_id = $1 and verified_at is not null and branch is null order by host) as custom_hosts,
    array(select host from domains
          where project_id = $1 and verified_at is not null and branch = $2 order by host) as branch_hosts;

-- name: move_alias
-- Points a host at a deployment and writes that down for the edges ($6 the site as JSON; its version, the deployment
-- before, the newest that was in production and where a domain redirects to are filled in here). No row when the host
-- belongs to another project.
with before as (
    select deployment_id from aliases where host = $1
), newest as (
    select max(deployment_id) as id from (
        select deployment_id from alias_history
        where project_id = $2 and kind = 'production' and reason <> 'protection' and $4::text in ('production', 'custom')
        order by version desc limit 32
    ) recent
), moved as (
    insert into aliases (host, project_id, deployment_id, kind, branch, version)
    values ($1, $2, $3, $4, $5, nextval('alias_version'))
    on conflict (host) do update
    set deployment_id = excluded.deployment_id, kind = excluded.kind, branch = excluded.branch,
        version = excluded.version, updated_at = now()
    where aliases.project_id = excluded.project_id
    returning version
)
insert into alias_history
    (version, host, kind, project_id, deployment_id, previous_deployment_id, reason, actor_id, site)
select version, $1, $4, $2, $3, (select deployment_id from before), $7, $8,
    $6::jsonb || jsonb_build_object(
        'version', version, 'previous_deployment_id', (select deployment_id from before),
        'newest_deployment_id', (select nullif(id, $3) from newest),
        'redirect_to', (select redirect_to from domain_redirects where host = $1))
from moved
returning version, previous_deployment_id;

-- name: remove_aliases
-- Takes every host of a project away, and writes that down for the edges.
with gone as (
    delete from aliases where project_id = $1 returning host, kind, deployment_id
)
insert into alias_history (version, host, kind, project_id, previous_deployment_id, reason, actor_id)
select nextval('alias_version'), host, kind, $1, deployment_id, $2, $3 from gone
returning version;

-- name: remove_alias
-- Takes one host away from a project, and writes that down for the edges.
with gone as (
    delete from aliases where host = $1 and project_id = $2 returning host, kind, deployment_id
)
insert into alias_history (version, host, kind, project_id, previous_deployment_id, reason, actor_id)
select nextval('alias_version'), host, kind, $2, deployment_id, $3, $4 from gone
returning version;

-- name: list_production_history
-- Newest first. Only what can still be shown.
select h.deployment_id, h.reason
from alias_history h
join deployments d on d.id = h.deployment_id and d.state = 'ready'
where h.project_id = $1 and h.kind = 'production' and h.reason <> 'protection'
order by h.version desc
limit 1000;

-- name: list_aliases
select host, project_id, deployment_id, kind, version
from aliases
where project_id = $1 and ($2::text[] is null or deployment_id = any($2))
order by host;

-- name: fetch_alias
select a.host, a.project_id, a.deployment_id, a.kind, a.branch, a.version, h.previous_deployment_id,
    h.site ->> 'newest_deployment_id' as newest_deployment_id, r.redirect_to
from aliases a
join projects p on p.id = a.project_id and p.deleted_at is null
left join alias_history h on h.version = a.version
left join domain_redirects r on r.host = a.host
where a.host = $1;

-- name: list_shown
-- The ready deployments whose pages may be open where a new one is shown: production's, its branch's, and the newest that
-- was in production of late, also after steps back from it.
select distinct d.id
from deployments d
where d.state = 'ready' and d.id in (
    select a.deployment_id from aliases a
    where a.project_id = $1 and (a.kind in ('production', 'custom') or (a.kind = 'branch' and a.branch = $2))
    union
    select max(recent.deployment_id) from (
        select deployment_id from alias_history
        where project_id = $1 and kind = 'production' and reason <> 'protection' order by version desc limit 32
    ) recent
)
order by d.id desc
limit 4;

-- name: fetch_host_owner
select project_id from aliases where host = $1;

-- name: count_chosen_aliases
-- The hosts of a project that somebody pointed at a deployment: no branch moves them.
select count(*) as count from aliases where project_id = $1 and kind = 'branch' and branch is null;
