-- name: lock_accounts
-- Lets one process at a time make the owner.
select pg_advisory_xact_lock($1);

-- name: fetch_owner
-- The user of the oldest personal team, with that team.
select u.id, u.email, u.name, t.id as team_id, t.slug as team_slug, t.name as team_name, t.is_personal
from teams t
join team_members m on m.team_id = t.id and m.role = 'owner'
join users u on u.id = m.user_id
where t.is_personal and u.disabled_at is null
order by t.created_at, t.id
limit 1;

-- name: insert_user
insert into users (id, email, name) values ($1, $2, $3);

-- name: insert_team
insert into teams (id, slug, name, is_personal) values ($1, $2, $3, $4);

-- name: insert_member
insert into team_members (team_id, user_id, role) values ($1, $2, $3);

-- name: fetch_user
select id, email, name from users where id = $1 and disabled_at is null;

-- name: fetch_team
select id, slug, name, is_personal from teams where id = $1;

-- name: insert_api_token
insert into api_tokens (id, user_id, team_id, name, token_hash, expires_at)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6));

-- name: fetch_actor_by_api_token
select k.id as token_id, k.user_id, k.team_id, m.role,
       coalesce(k.last_used_at < now() - interval '1 minute', true) as is_touch_due
from api_tokens k
join users u on u.id = k.user_id and u.disabled_at is null
join team_members m on m.team_id = k.team_id and m.user_id = k.user_id
where k.token_hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now());

-- name: touch_api_token
update api_tokens set last_used_at = now() where id = $1;

-- name: revoke_api_token
update api_tokens set revoked_at = now() where id = $1 and team_id = $2 and revoked_at is null;

-- name: insert_sign_in_link
insert into sign_in_links (token_hash, user_id, expires_at) values ($1, $2, now() + make_interval(secs => $3));

-- name: use_sign_in_link
-- A link opens once: the second of two uses at the same time finds it used.
update sign_in_links l set used_at = now()
from users u
where l.token_hash = $1 and l.used_at is null and l.expires_at > now() and u.id = l.user_id and u.disabled_at is null
returning l.user_id;

-- name: insert_session
insert into sessions (id, user_id, family, token_hash, expires_at, user_agent, address)
values ($1, $2, $1, $3, now() + make_interval(secs => $4), $5, $6);

-- name: fetch_actor_by_session
-- Without a team ($2 null) the actor stands in the user's own.
select s.user_id, m.team_id, m.role
from sessions s
join users u on u.id = s.user_id and u.disabled_at is null
join team_members m on m.user_id = s.user_id
join teams t on t.id = m.team_id
where s.token_hash = $1 and s.revoked_at is null and s.expires_at > now() and ($2::text is null or m.team_id = $2)
order by t.is_personal desc, t.created_at
limit 1;

-- name: revoke_session
update sessions set revoked_at = now() where token_hash = $1 and revoked_at is null;
