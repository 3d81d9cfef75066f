-- name: save_deploy_key
-- Also the id is new each time: it is what the value is sealed for.
insert into deploy_keys (id, project_id, public_key, value, known_hosts) values ($1, $2, $3, $4, $5)
on conflict (project_id) do update
set id = excluded.id, public_key = excluded.public_key, value = excluded.value, known_hosts = excluded.known_hosts,
    created_at = now()
returning id, public_key, known_hosts, created_at;

-- name: fetch_deploy_key
select id, public_key, value, known_hosts, created_at from deploy_keys where project_id = $1;

-- name: set_known_hosts
update deploy_keys set known_hosts = $2 where project_id = $1
returning id, public_key, known_hosts, created_at;

-- name: learn_known_hosts
-- Only what the first connection showed is taken on trust.
update deploy_keys set known_hosts = $3 where project_id = $1 and id = $2 and known_hosts = '';

-- name: delete_deploy_key
delete from deploy_keys where project_id = $1;

-- name: list_sealed_deploy_keys
select id, value from deploy_keys where id > $1 order by id limit $2;

-- name: replace_sealed_deploy_key
-- Nothing is replaced that was changed since it was read.
update deploy_keys set value = $3 where id = $1 and value = $2;
