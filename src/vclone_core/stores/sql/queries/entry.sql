-- What opens the platform: API tokens, sessions and their refresh tokens, sign-in links, tries to sign in.
-- Where a team is asked for ($2: its id or slug; null: none is), it has to be one of the user's.

-- name: insert_api_token
insert into api_tokens (id, user_id, team_id, name, token_hash, expires_at, scopes)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), $7);

-- name: fetch_actor_by_api_token
-- A token with scopes is of one team. One without was made by a sign-in, and acts in every team of its user's.
select k.id as entry_id, k.user_id, k.scopes, m.team_id, m.role, m.projects,
       coalesce(k.last_used_at < now() - interval '1 minute', true) as is_touch_due
from api_tokens k
join memberships m on m.user_id = k.user_id
where k.token_hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
  and case when $2::text is null then m.team_id = k.team_id
           else $2 in (m.team_id, m.slug) and (k.scopes = '{}' or m.team_id = k.team_id) end;

-- name: touch_api_token
update api_tokens set last_used_at = now() where id = $1;

-- name: revoke_api_token
-- $3: only one's own; null: anybody's of the team.
update api_tokens set revoked_at = now()
where id = $1 and team_id = $2 and revoked_at is null and ($3::text is null or user_id = $3);

-- name: revoke_api_token_by_id
update api_tokens set revoked_at = now() where id = $1 and revoked_at is null;

-- name: revoke_tokens_of_member
update api_tokens set revoked_at = now() where team_id = $1 and user_id = $2 and revoked_at is null;

-- name: revoke_tokens_of_team
update api_tokens set revoked_at = now() where team_id = $1 and revoked_at is null;

-- name: list_api_tokens
-- Newest first; $2: only one's own; null: everybody's in the team.
select k.id, k.name, k.scopes, k.created_at, k.expires_at, k.last_used_at,
       u.id as user_id, u.email as user_email, u.name as user_name
from api_tokens k
join users u on u.id = k.user_id
where k.team_id = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
  and ($2::text is null or k.user_id = $2) and ($3::text is null or k.id < $3)
order by k.id desc
limit $4;

-- name: insert_sign_in_link
insert into sign_in_links (token_hash, user_id, expires_at) values ($1, $2, now() + make_interval(secs => $3));

-- name: use_sign_in_link
-- A link opens once: the second of two uses at the same time finds it used.
update sign_in_links l set used_at = now()
from users u
where l.token_hash = $1 and l.used_at is null and l.expires_at > now() and u.id = l.user_id and u.disabled_at is null
returning l.user_id;

-- name: insert_session
insert into sessions (id, user_id, family, token_hash, expires_at, user_agent, address, kind)
values ($1, $2, $1, $3, now() + make_interval(secs => $4), $5, $6, $7);

-- name: delete_old_sessions
-- A user's that ended long ago, with their refresh tokens; those that ended lately still tell of a theft.
delete from sessions
where user_id = $1 and (expires_at < now() - interval '30 days' or revoked_at < now() - interval '30 days');

-- name: fetch_actor_by_session
-- Without a team the actor stands in the one the session chose, else in the user's own.
select s.id as entry_id, s.user_id, m.team_id, m.role, m.projects, s.seen_at < now() - interval '5 minutes' as is_touch_due
from sessions s
join memberships m on m.user_id = s.user_id
where s.token_hash = $1 and s.revoked_at is null and s.expires_at > now()
  and ($2::text is null or $2 in (m.team_id, m.slug))
order by (m.team_id = s.team_id) is true desc, m.is_own desc, m.team_created_at
limit 1;

-- name: fetch_actor_by_session_id
-- As above, for an access token: it names its session and its user.
select s.id as entry_id, s.user_id, m.team_id, m.role, m.projects, s.seen_at < now() - interval '5 minutes' as is_touch_due
from sessions s
join memberships m on m.user_id = s.user_id
where s.id = $1 and s.user_id = $3 and s.revoked_at is null and s.expires_at > now()
  and ($2::text is null or $2 in (m.team_id, m.slug))
order by (m.team_id = s.team_id) is true desc, m.is_own desc, m.team_created_at
limit 1;

-- name: touch_session
-- A session that is used lives on, up to its longest life: $2 and $3 in seconds.
update sessions
set seen_at = now(),
    expires_at = least(now() + make_interval(secs => $2), created_at + make_interval(secs => $3))
where id = $1;

-- name: choose_team
update sessions set team_id = $2 where id = $1;

-- name: revoke_session
update sessions set revoked_at = now() where token_hash = $1 and revoked_at is null;

-- name: revoke_session_by_id
update sessions set revoked_at = now() where id = $1 and user_id = $2 and revoked_at is null;

-- name: revoke_other_sessions
update sessions set revoked_at = now() where user_id = $1 and revoked_at is null and id is distinct from $2;

-- name: list_sessions
select id, kind, user_agent, address, created_at, seen_at, expires_at
from sessions
where user_id = $1 and revoked_at is null and expires_at > now()
order by seen_at desc, id desc
limit 200;

-- name: insert_refresh_token
insert into refresh_tokens (token_hash, session_id, expires_at) values ($1, $2, $3);

-- name: lock_refresh_token
-- With the session it belongs to; whoever comes second with the same token waits here for the first.
select r.expires_at, r.used_at, now() as now, s.id as session_id, s.user_id, s.created_at as made_at,
       s.expires_at as session_ends_at, s.revoked_at is not null or u.disabled_at is not null as is_revoked
from refresh_tokens r
join sessions s on s.id = r.session_id
join users u on u.id = s.user_id
where r.token_hash = $1
for update of r;

-- name: use_refresh_token
update refresh_tokens set used_at = coalesce(used_at, now()) where token_hash = $1;

-- name: delete_old_refresh_tokens
-- A used one is kept for as long as its session lives: that it comes back is what tells of a theft.
delete from refresh_tokens where session_id = $1 and expires_at < now();

-- name: insert_provider_attempt
insert into provider_attempts (state_hash, browser_hash, provider, invitation_hash, user_id, expires_at)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => $6));

-- name: use_provider_attempt
-- Once, by the browser that began it, within its time.
update provider_attempts set used_at = now()
where state_hash = $1 and browser_hash = $2 and provider = $3 and used_at is null and expires_at > now()
returning invitation_hash, user_id;

-- name: delete_old_attempts
delete from provider_attempts where expires_at < now() - interval '1 day';

-- name: insert_device_login
insert into device_logins (device_hash, user_code, client, address, expires_at)
values ($1, $2, $3, $4, now() + make_interval(secs => $5));

-- name: delete_old_device_logins
delete from device_logins where expires_at < now() - interval '1 day';

-- name: fetch_device_login
select user_code, client, address, created_at
from device_logins
where user_code = $1 and user_id is null and denied_at is null and expires_at > now();

-- name: approve_device_login
update device_logins set user_id = $2, team_id = $3
where user_code = $1 and user_id is null and denied_at is null and expires_at > now();

-- name: deny_device_login
update device_logins set denied_at = now()
where user_code = $1 and user_id is null and denied_at is null and expires_at > now();

-- name: lock_device_login
select user_id, team_id, client, denied_at is not null as is_denied, used_at is not null as is_used,
       expires_at <= now() as is_over
from device_logins
where device_hash = $1
for update;

-- name: use_device_login
update device_logins set used_at = now() where device_hash = $1;

-- name: fetch_now
select now() as now;
