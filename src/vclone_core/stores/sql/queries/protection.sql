-- Who may see a project's sites. What changes what edges are told is written under the lock of alias moves.

-- name: fetch_policy
-- With the ids of the share links that hold, by host; no row: there never was any protection.
select covers, key, enter_url, password_hash is not null as has_password, members_generation, password_generation, bypass,
    bypass_made_at,
    coalesce((
        select jsonb_object_agg(l.host, l.ids) from (
            select host, jsonb_agg(id order by id) as ids
            from share_links where project_id = $1 and expires_at > now() group by host
        ) l
    ), '{}') as links
from project_protection
where project_id = $1;

-- name: insert_protection
insert into project_protection (project_id, key, signing_key, enter_url) values ($1, $2, $3, $4)
on conflict (project_id) do nothing;

-- name: set_enter_url
update project_protection set enter_url = $1 where enter_url <> $1;

-- name: delete_protection
delete from project_protection where project_id = $1;

-- name: set_covers
update project_protection set covers = $2, updated_at = now() where project_id = $1;

-- name: set_site_password
-- Whoever came in by the one before has to type the new one.
update project_protection
set password_hash = $2, password_generation = password_generation + 1, updated_at = now()
where project_id = $1;

-- name: end_passes
update project_protection
set members_generation = members_generation + 1, password_generation = password_generation + 1, updated_at = now()
where project_id = $1;

-- name: end_passes_of_members
-- Of every protected project of a team: somebody's access to some of them has changed.
update project_protection
set members_generation = members_generation + 1, updated_at = now()
where covers <> 'off' and project_id in (select id from projects where team_id = $1 and deleted_at is null)
returning project_id;

-- name: set_bypass
update project_protection
set bypass = $2, bypass_made_at = case when $2::text is not null then now() end, updated_at = now()
where project_id = $1;

-- name: fetch_entrance
-- What is behind a protected host: whose it is, and what checks and signs.
select a.host, a.kind, a.branch, a.project_id, p.name as project, p.team_id, s.covers, s.password_hash, s.signing_key,
    s.members_generation, s.password_generation
from aliases a
join projects p on p.id = a.project_id and p.deleted_at is null
left join project_protection s on s.project_id = p.id
where a.host = $1;

-- name: fetch_signing_key
select signing_key from project_protection where project_id = $1;

-- name: fetch_visitor
-- Whether a user may see a project, in whatever team they stand.
select m.role
from memberships m
where m.user_id = $1 and m.team_id = $2 and (m.projects is null or $3 = any(m.projects));

-- name: list_sealed_signing_keys
select project_id as id, signing_key as value from project_protection where project_id > $1 order by project_id limit $2;

-- name: replace_sealed_signing_key
update project_protection set signing_key = $3 where project_id = $1 and signing_key = $2;

-- name: insert_share_link
insert into share_links (id, project_id, host, name, created_by, expires_at)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
returning *;

-- name: list_share_links
select id, project_id, host, name, created_at, expires_at
from share_links where project_id = $1 and expires_at > now() order by id desc;

-- name: delete_old_share_links
delete from share_links where project_id = $1 and expires_at < now();

-- name: count_share_links
select count(*) as all_of_project, count(*) filter (where host = $2) as of_host from share_links where project_id = $1;

-- name: delete_share_link
delete from share_links where id = $1 and project_id = $2 returning host;

-- name: fetch_alias_host
-- A host of a project: its own name, that of a branch, or a deployment's.
select host from aliases
where project_id = $1 and (host = $2 or (kind = 'branch' and branch = $2) or (kind = 'deployment' and deployment_id = $2));

-- name: list_told
-- Hosts of a project ($2: these; null: all) as edges know them.
select a.host, a.project_id, a.deployment_id, a.kind, a.branch, a.version, h.previous_deployment_id,
    h.site ->> 'newest_deployment_id' as newest_deployment_id, r.redirect_to
from aliases a
left join alias_history h on h.version = a.version
left join domain_redirects r on r.host = a.host
where a.project_id = $1 and ($2::text[] is null or a.host = any($2::text[]))
order by a.host;

-- name: retell_aliases
-- Hosts stay where they are, and edges are told of them anew ($2 and $3: hosts and sites, in pairs).
with told as (
    select a.host, a.kind, a.deployment_id, h.previous_deployment_id, new.site
    from unnest($2::text[], $3::jsonb[]) as new (host, site)
    join aliases a on a.host = new.host and a.project_id = $1
    left join alias_history h on h.version = a.version
), moved as (
    update aliases a set version = nextval('alias_version') from told where a.host = told.host
    returning a.host, a.version
)
insert into alias_history
    (version, host, kind, project_id, deployment_id, previous_deployment_id, reason, actor_id, site)
select m.version, t.host, t.kind, $1, t.deployment_id, t.previous_deployment_id, 'protection', $4,
    t.site || jsonb_build_object('version', m.version)
from told t join moved m on m.host = t.host
returning version;
