-- name: lock_variables
-- Changes of one project's variables wait for each other: their total has a limit.
select id from projects where id = $1 and deleted_at is null for no key update;

-- name: list_variables
select * from environment_variables where project_id = $1 order by key, target, branch;

-- name: insert_variable
insert into environment_variables (id, project_id, key, target, branch, value, is_sensitive, is_build, is_run)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: update_variable
update environment_variables
set value = $3, is_sensitive = $4, is_build = $5, is_run = $6, version = $7, updated_at = now()
where id = $1 and project_id = $2;

-- name: delete_variable
delete from environment_variables where id = $1 and project_id = $2 returning key, target, branch;

-- name: delete_variables
delete from environment_variables where project_id = $1;

-- name: list_sealed_variables
select v.id, p.team_id, v.project_id, v.target, v.branch, v.key, v.version, v.value
from environment_variables v join projects p on p.id = v.project_id
where v.id > $1 order by v.id limit $2;

-- name: replace_sealed_variable
-- Nothing is replaced that was changed since it was read.
update environment_variables set value = $3 where id = $1 and value = $2;
