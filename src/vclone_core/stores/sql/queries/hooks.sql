-- name: insert_hook
insert into deploy_hooks (id, project_id, name, branch, token_hash, created_by) values ($1, $2, $3, $4, $5, $6)
returning *;

-- name: list_hooks
select * from deploy_hooks where project_id = $1 order by id;

-- name: count_hooks
select count(*) as hooks from deploy_hooks where project_id = $1;

-- name: delete_hook
delete from deploy_hooks where id = $1 and project_id = $2;

-- name: use_hook
-- Counts a call in the hook's window of $2 seconds. No row: there is no such hook.
update deploy_hooks h
set window_started_at = case when fresh.is_new then now() else h.window_started_at end,
    window_calls = case when fresh.is_new then 1 else h.window_calls + 1 end,
    last_used_at = now()
from (
    select id, coalesce(window_started_at <= now() - make_interval(secs => $2), true) as is_new
    from deploy_hooks where token_hash = $1
    for no key update
) fresh
join deploy_hooks f on f.id = fresh.id
join projects p on p.id = f.project_id and p.deleted_at is null
where h.id = fresh.id
returning h.*, p.team_id,
    extract(epoch from h.window_started_at + make_interval(secs => $2) - now())::float8 as window_left_s;
