-- name: save_git_token
-- Also the id is new each time: it is what the value is sealed for.
insert into git_tokens (id, team_id, host, account, value) values ($1, $2, $3, $4, $5)
on conflict (team_id, host) do update
set id = excluded.id, account = excluded.account, value = excluded.value, created_at = now()
returning id, host, account, created_at;

-- name: list_git_tokens
select id, host, account, created_at from git_tokens where team_id = $1 order by host;

-- name: fetch_git_token
select id, host, account, value from git_tokens where team_id = $1 and host = $2;

-- name: delete_git_token
delete from git_tokens where team_id = $1 and host = $2;

-- name: list_sealed_git_tokens
select id, value from git_tokens where id > $1 order by id limit $2;

-- name: replace_sealed_git_token
-- Nothing is replaced that was changed since it was read.
update git_tokens set value = $3 where id = $1 and value = $2;
