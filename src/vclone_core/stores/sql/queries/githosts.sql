-- name: save_git_connection
-- A project's connection in place of an earlier one, whose deliveries stay.
insert into git_connections (id, project_id, host, api_url, repository, account, git_app_id, created_by)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (project_id) do update
set host = excluded.host, api_url = excluded.api_url, repository = excluded.repository, account = excluded.account,
    git_app_id = excluded.git_app_id, created_by = excluded.created_by
returning *;

-- name: fetch_git_connection
select c.* from git_connections c where c.project_id = $1;

-- name: fetch_webhook_connection
-- The connection that a delivery names, and its sealed secret.
select c.*, s.id as secret_id, s.value
from git_connections c
join projects p on p.id = c.project_id and p.deleted_at is null
join git_secrets s on s.owner_id = c.id and s.name = 'webhook'
where c.id = $1 and c.host = $2;

-- name: list_app_connections
-- Who follows a repository by an App.
select c.*
from git_connections c
join projects p on p.id = c.project_id and p.deleted_at is null
where c.git_app_id = $1 and lower(c.repository) = lower($2)
order by c.id;

-- name: delete_git_connection
with gone as (
    delete from git_connections where project_id = $1 returning id
)
delete from git_secrets where owner_id in (select id from gone);

-- name: save_git_secret
insert into git_secrets (id, owner_id, name, value) values ($1, $2, $3, $4)
on conflict (owner_id, name) do update set id = excluded.id, value = excluded.value;

-- name: fetch_git_secret
select id, value from git_secrets where owner_id = $1 and name = $2;

-- name: delete_git_secret
delete from git_secrets where owner_id = $1 and name = $2;

-- name: list_sealed_git_secrets
select id, value from git_secrets where id > $1 order by id limit $2;

-- name: replace_sealed_git_secret
-- Nothing is replaced that was changed since it was read.
update git_secrets set value = $3 where id = $1 and value = $2;

-- name: insert_delivery
-- No row: the same delivery is here already. One that failed is taken up again when its host sends it again.
-- $9 also the same body under another id is the same.
insert into webhook_deliveries (connection_id, provider, delivery_id, event, project_id, body_sha256, data, ref)
select $1, $2, $3, $4, $5, $6, $7, $8
where not ($9 and exists (
    select from webhook_deliveries w where w.connection_id = $1 and w.body_sha256 = $6 and w.delivery_id <> $3))
on conflict (connection_id, delivery_id) do update
set state = 'waiting', attempt = 0, not_before = now(), detail = ''
where webhook_deliveries.state = 'failed' and webhook_deliveries.body_sha256 = excluded.body_sha256
returning number;

-- name: claim_delivery
-- The oldest waiting delivery of a connection of which no earlier one waits: one at a time, in the order of arrival.
-- $1 seconds until another process may take it up; by the attempt, who was given up writes nothing.
with next as (
    select w.number
    from webhook_deliveries w
    where w.state = 'waiting' and w.not_before <= now()
      and not exists (
        select from webhook_deliveries e
        where e.connection_id = w.connection_id and e.state = 'waiting' and e.number < w.number)
    order by w.number
    limit 1
    for no key update of w skip locked
)
update webhook_deliveries w
set attempt = w.attempt + 1, not_before = now() + make_interval(secs => $1)
from next, git_connections c, projects p
where w.number = next.number and c.id = w.connection_id and p.id = c.project_id and p.deleted_at is null
returning w.*, c.host, c.repository, c.project_id as of_project, p.team_id;

-- name: finish_delivery
-- No row: another process has taken it up.
update webhook_deliveries
set state = $3, outcome = $4, detail = $5, deployment_id = $6, done_at = now()
where number = $1 and attempt = $2 and state = 'waiting'
returning number;

-- name: postpone_delivery
update webhook_deliveries set not_before = now() + make_interval(secs => $3), detail = $4
where number = $1 and attempt = $2 and state = 'waiting'
returning number;

-- name: list_past_pushes
-- What arrived of a branch and counted, oldest first.
select number, before, sha from (
    select number, coalesce(data ->> 'before', '') as before, coalesce(data ->> 'sha', '') as sha
    from webhook_deliveries
    where connection_id = $1 and ref = $2 and number <> $3 and data ->> 'kind' in ('push', 'branch_deleted')
      and state = 'done' and outcome not in ('older', 'ignored')
    order by number desc
    limit 100
) recent
order by number;

-- name: fetch_newest_of_ref
select d.id, d.source ->> 'sha' as sha, d.state
from deployments d
where d.project_id = $1 and d.source ->> 'kind' = 'git' and d.source ->> 'ref' = $2
order by d.sequence desc
limit 1;

-- name: has_deployed_commit
select exists (
    select from deployments d
    where d.project_id = $1 and d.source ->> 'ref' = $2 and d.source ->> 'sha' = $3) as is_known;

-- name: list_deliveries
select * from webhook_deliveries where connection_id = $1 order by number desc limit $2;

-- name: repeat_delivery
update webhook_deliveries set state = 'waiting', attempt = 0, not_before = now(), detail = ''
where connection_id = $1 and number = $2 and state <> 'waiting'
returning *;

-- name: delete_old_deliveries
-- A host can send one again for three days; each branch keeps what its order is told by for a month.
delete from webhook_deliveries where state <> 'waiting' and received_at < now() - interval '30 days';

-- name: save_pull_request
-- No row: something newer is known of it. An approval counts for one commit.
insert into pull_requests (project_id, number, is_open, title, author, head_repository, head_url, head_ref, head_sha,
    is_fork, preview_ref, changed_at, closed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, case when $3 then null else now() end)
on conflict (project_id, number) do update
set is_open = excluded.is_open, title = excluded.title, head_url = excluded.head_url, head_ref = excluded.head_ref,
    head_sha = excluded.head_sha, head_repository = excluded.head_repository, is_fork = excluded.is_fork,
    preview_ref = excluded.preview_ref,
    changed_at = coalesce(excluded.changed_at, pull_requests.changed_at),
    closed_at = case when excluded.is_open then null else coalesce(pull_requests.closed_at, now()) end
where pull_requests.changed_at is null or excluded.changed_at is null
   or excluded.changed_at >= pull_requests.changed_at
returning *;

-- name: fetch_pull_request
select * from pull_requests where project_id = $1 and number = $2;

-- name: list_pull_requests
select * from pull_requests where project_id = $1 and is_open order by number desc limit $2;

-- name: list_pull_requests_of_ref
select * from pull_requests where project_id = $1 and preview_ref = $2 and is_open order by number;

-- name: approve_pull_request
-- No row: its newest commit is another by now, or it is closed.
update pull_requests set approved_sha = $3, approved_by = $4
where project_id = $1 and number = $2 and head_sha = $3 and is_open and is_fork
returning *;

-- name: cancel_unfinished_of_ref
-- What is queued or being built of a branch that is gone; $3 why, $4 the state of a queued one.
update deployments
set state = case when state = 'queued' then $4 else state end,
    finished_at = case when state = 'queued' then now() end,
    cancel_requested_at = coalesce(cancel_requested_at, now()), reason = $3
where id in (
    select id from deployments
    where project_id = $1 and state in ('queued', 'building') and source ->> 'kind' = 'git' and source ->> 'ref' = $2
      and target = 'preview'
    order by id
    for no key update)
returning *;

-- name: remove_branch_alias
with gone as (
    delete from aliases where project_id = $1 and kind = 'branch' and branch = $2 returning host, kind, deployment_id
)
insert into alias_history (version, host, kind, project_id, previous_deployment_id, reason)
select nextval('alias_version'), host, kind, $1, deployment_id, $3 from gone
returning version;

-- name: note_deployment_reports
-- What the host is to be told since deployments changed: $1 one of them, or null for all from $2 (an id) on. Of a
-- commit's deployments the newest speaks. What is wanted already is left as it is.
with changed as (
    select d.id, d.project_id, d.state, d.sequence, d.source ->> 'sha' as sha, d.source ->> 'ref' as ref, c.host
    from deployments d
    join git_connections c on c.project_id = d.project_id and c.created_at <= d.created_at
    where d.source ->> 'kind' = 'git' and d.source ->> 'sha' is not null
      and (c.git_app_id is not null or exists (select from git_secrets s where s.owner_id = c.id and s.name = 'token'))
      and (case when $1::text is null then d.id >= $2 else d.id = $1 end)
), newest as (
    select distinct on (n.project_id, n.sha) n.project_id, n.sha, d.id, d.state
    from changed n
    join deployments d on d.project_id = n.project_id and d.source ->> 'sha' = n.sha
    order by n.project_id, n.sha, d.sequence desc
), wanted as (
    select project_id, 'status' as part, sha as subject, id || ':' || state as wanted from newest
    union all
    select project_id, 'entry', id, id || ':' || state from changed where host = any($3::text[])
    union all
    (select distinct on (n.project_id, p.number)
        n.project_id, 'comment', p.number::text, d.id || ':' || d.state || ':' || p.head_sha
    from changed n
    join pull_requests p on p.project_id = n.project_id and p.preview_ref = n.ref and p.is_open
    join deployments d on d.project_id = n.project_id and d.source ->> 'ref' = n.ref
    order by n.project_id, p.number, d.sequence desc)
)
insert into git_reports (project_id, part, subject, wanted)
select project_id, part, subject, wanted from wanted
on conflict (project_id, part, subject) do update
set wanted = excluded.wanted, state = 'waiting', attempt = 0, not_before = now(), problem = '', updated_at = now()
where git_reports.wanted is distinct from excluded.wanted;

-- name: note_report
-- Nothing where there is nothing to speak to the host with.
insert into git_reports (project_id, part, subject, wanted)
select c.project_id, $2, $3, $4
from git_connections c
where c.project_id = $1
  and (c.git_app_id is not null or exists (select from git_secrets s where s.owner_id = c.id and s.name = 'token'))
on conflict (project_id, part, subject) do update
set wanted = excluded.wanted, state = 'waiting', attempt = 0, not_before = now(), problem = '', updated_at = now()
where git_reports.wanted is distinct from excluded.wanted;

-- name: claim_report
-- $1 seconds until another process may take it up.
with next as (
    select r.project_id, r.part, r.subject
    from git_reports r
    join projects p on p.id = r.project_id and p.deleted_at is null
    where r.state = 'waiting' and r.not_before <= now()
    order by r.not_before
    limit 1
    for no key update of r skip locked
)
update git_reports r
set attempt = r.attempt + 1, not_before = now() + make_interval(secs => $1)
from next
where r.project_id = next.project_id and r.part = next.part and r.subject = next.subject
returning r.*;

-- name: finish_report
-- It is done only if nothing new is wanted since it was claimed; what the host calls it is kept in any case.
update git_reports
set told = $4, remote_id = coalesce($5, remote_id), updated_at = now(), problem = '',
    state = case when wanted = $4 then 'done' else state end,
    not_before = case when wanted = $4 then not_before else now() end
where project_id = $1 and part = $2 and subject = $3;

-- name: miss_report
-- $4 what was to be told, $5 seconds of rest, null: it is given up.
update git_reports
set problem = $6, updated_at = now(),
    state = case when $5::float8 is null then 'failed' else state end,
    not_before = now() + make_interval(secs => coalesce($5::float8, 0))
where project_id = $1 and part = $2 and subject = $3 and wanted = $4;

-- name: list_reports
select * from git_reports where project_id = $1 order by updated_at desc limit $2;

-- name: repeat_reports
update git_reports set state = 'waiting', attempt = 0, not_before = now(), problem = ''
where project_id = $1 and state = 'failed';

-- name: fetch_newest_of_commit
select * from deployments
where project_id = $1 and source ->> 'kind' = 'git' and source ->> 'sha' = $2
order by sequence desc limit 1;

-- name: fetch_newest_deployment_of_ref
select * from deployments
where project_id = $1 and source ->> 'kind' = 'git' and source ->> 'ref' = $2
order by sequence desc limit 1;

-- name: fetch_waiting_commit
-- Whether a commit is the newest of a fork's open pull request that nobody has approved.
select exists (
    select from pull_requests
    where project_id = $1 and head_sha = $2 and is_open and is_fork and approved_sha is distinct from head_sha) as waits;

-- name: fetch_branch_alias
select host from aliases where project_id = $1 and kind = 'branch' and branch = $2 and deployment_id = $3;

-- name: set_git_url
update projects set git_url = $2, updated_at = now() where id = $1 and deleted_at is null;

-- name: fetch_git_app
select * from git_apps where id = $1;

-- name: list_git_apps_of_host
-- The Apps that a delivery may be for (ids are of one server each), and their sealed secrets.
select a.*, s.id as secret_id, s.value
from git_apps a
join teams t on t.id = a.team_id and t.deleted_at is null
join git_secrets s on s.owner_id = a.id and s.name = 'webhook'
where a.host = $1 and a.app_id = $2
order by a.id
limit 5;

-- name: delete_old_git_apps
delete from git_apps where app_id is null and expires_at < now();

-- name: insert_git_app
insert into git_apps (id, team_id, host, api_url, state_hash, created_by, expires_at)
values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7));

-- name: use_git_app_state
-- Once, by the person who began.
update git_apps set state_hash = null
where state_hash = $1 and team_id = $2 and created_by is not distinct from $3 and app_id is null and expires_at > now()
returning *;

-- name: finish_git_app
update git_apps set app_id = $2, slug = $3, url = $4 where id = $1 and app_id is null
returning *;

-- name: list_git_apps
select * from git_apps where team_id = $1 and app_id is not null order by id;

-- name: delete_git_app
with gone as (
    delete from git_apps where id = $1 and team_id = $2 returning id
), connections as (
    select id from git_connections where git_app_id in (select id from gone)
), forgotten as (
    delete from git_secrets where owner_id in (select id from gone union all select id from connections)
)
select id from gone;
