-- name: lock_accounts
-- Lets one process at a time make the owner.
select pg_advisory_xact_lock($1);

-- name: fetch_owner
-- The user of the oldest personal team, with that team.
select u.id, u.email, u.name, t.id as team_id, t.slug as team_slug, t.name as team_name, t.is_personal
from teams t
join team_members m on m.team_id = t.id and m.role = 'owner'
join users u on u.id = m.user_id
where t.is_personal and u.disabled_at is null and coalesce(t.personal_of = u.id, true)
order by t.created_at, t.id
limit 1;

-- name: insert_user
insert into users (id, email, name) values ($1, $2, $3);

-- name: fetch_user_by_email
select id, email, name, password_hash, disabled_at is not null as is_disabled from users where lower(email) = $1;

-- name: fetch_password_hash
select password_hash from users where id = $1 and disabled_at is null;

-- name: update_password
update users set password_hash = $2 where id = $1 and disabled_at is null;

-- name: update_user
update users set name = $2, email = $3 where id = $1 and disabled_at is null returning id, email, name;

-- name: fetch_identity
select i.user_id from identities i join users u on u.id = i.user_id and u.disabled_at is null
where i.provider = $1 and i.subject = $2;

-- name: insert_identity
insert into identities (provider, subject, user_id, email) values ($1, $2, $3, $4);

-- name: list_identities
select provider, email, created_at from identities where user_id = $1 order by provider;

-- name: delete_identity
delete from identities where user_id = $1 and provider = $2;

-- name: insert_team
insert into teams (id, slug, name, is_personal) values ($1, $2, $3, $4);

-- name: own_team
update teams set personal_of = $2 where id = $1;

-- name: insert_member
insert into team_members (team_id, user_id, role) values ($1, $2, $3);

-- name: fetch_user
select id, email, name from users where id = $1 and disabled_at is null;

-- name: fetch_team
select id, slug, name, is_personal from teams where id = $1 and deleted_at is null;
