-- Claims of custom host names. Of one name there may be many claims; one at most is held (`verified_at`).

-- name: insert_domain
insert into domains (id, project_id, host, token, branch, redirect_to) values ($1, $2, $3, $4, $5, $6);

-- name: list_domains
-- Within a team and, for a restricted member, their projects ($3); of one project ($2) or of all. Newest first.
select d.*, p.name as project_name
from domains d
join projects p on p.id = d.project_id
where p.team_id = $1 and p.deleted_at is null and ($2::text is null or d.project_id = $2)
  and ($3::text[] is null or p.id = any($3::text[])) and ($4::text is null or d.id < $4)
order by d.id desc
limit $5;

-- name: fetch_domain
-- By id or by host, within a team and, for a restricted member, their projects ($3). Two projects of a team may claim
-- one host: the one that holds it is meant, else the newest claim.
select d.*, p.name as project_name
from domains d
join projects p on p.id = d.project_id
where p.team_id = $1 and p.deleted_at is null and (d.id = $2 or d.host = $2)
  and ($3::text[] is null or p.id = any($3::text[]))
order by d.verified_at is not null desc, d.id desc
limit 1;

-- name: fetch_claim
-- A project's claim of a host.
select d.*, p.name as project_name
from domains d
join projects p on p.id = d.project_id and p.deleted_at is null
where d.project_id = $1 and d.host = $2;

-- name: lock_domain
select d.*, p.name as project_name
from domains d
join projects p on p.id = d.project_id and p.deleted_at is null
where d.id = $1
for update of d;

-- name: fetch_domain_holder
-- Who holds a host, besides the claim $2.
select d.*, p.name as project_name, p.team_id
from domains d
join projects p on p.id = d.project_id
where d.host = $1 and d.verified_at is not null and d.id <> $2;

-- name: claim_due_domains
-- Takes what is due for $2 seconds, so that no other process looks at it; a process that dies leaves it due again.
with due as (
    select id from domains
    where next_check_at <= clock_timestamp()
    order by next_check_at
    limit $1
    for update skip locked
)
update domains d
set next_check_at = clock_timestamp() + make_interval(secs => $2)
from due, projects p
where d.id = due.id and p.id = d.project_id and p.deleted_at is null
returning d.*, p.name as project_name;

-- name: hold_domain
-- As above for one that somebody asks for, unless it was looked at less than $3 seconds ago.
update domains d
set next_check_at = clock_timestamp() + make_interval(secs => $2)
from projects p
where d.id = $1 and p.id = d.project_id
  and (d.checked_at is null or d.checked_at < clock_timestamp() - make_interval(secs => $3))
returning d.*, p.name as project_name;

-- name: save_domain_check
-- $3 whether it is held from now on, $5 seconds until the next look (null: none).
update domains
set state = $2, problem = $4, checked_at = clock_timestamp(),
    next_check_at = clock_timestamp() + make_interval(secs => $5),
    since = case when state = $2 then since else clock_timestamp() end,
    verified_at = case when $3 then coalesce(verified_at, clock_timestamp()) end
where id = $1;

-- name: restart_domain
-- A claim begins anew, with a token that nobody can have set yet.
update domains
set state = 'pending', token = $2, problem = null, since = clock_timestamp(), verified_at = null, checked_at = null,
    next_check_at = clock_timestamp()
where id = $1 and state = 'lapsed';

-- name: displace_domain
update domains
set state = 'lapsed', token = $2, problem = $3, since = clock_timestamp(), verified_at = null, next_check_at = null
where id = $1;

-- name: change_domain
update domains set redirect_to = $2, branch = $3 where id = $1;

-- name: delete_domain
delete from domains where id = $1;

-- name: delete_domains
delete from domains where project_id = $1;

-- name: list_redirecting
-- The held domains of a project that redirect to a host.
select d.*, p.name as project_name
from domains d
join projects p on p.id = d.project_id
where d.project_id = $1 and d.redirect_to = $2 and d.verified_at is not null
order by d.host;

-- name: forget_redirects
update domains set redirect_to = null where project_id = $1 and redirect_to = $2;

-- name: resolve_host
-- What a host shows, within a team and, for a restricted member, their projects ($3).
select a.host, a.kind, a.deployment_id, a.version, p.id as project_id, p.name as project_name, r.redirect_to
from aliases a
join projects p on p.id = a.project_id and p.deleted_at is null
left join domain_redirects r on r.host = a.host
where a.host = $2 and p.team_id = $1 and ($3::text[] is null or p.id = any($3::text[]));

-- name: list_siblings
-- The hosts that a project claims, and where they redirect to.
select host, redirect_to from domains where project_id = $1;
