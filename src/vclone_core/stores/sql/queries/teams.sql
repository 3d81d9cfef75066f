-- Teams, their members and invitations. Who is a member is decided by the actor's team, never by an id that was sent.

-- name: list_teams
select t.id, t.slug, t.name, t.is_personal, m.role, m.projects, t.created_at
from memberships m
join teams t on t.id = m.team_id
where m.user_id = $1
order by m.is_own desc, t.name, t.id;

-- name: update_team
update teams set name = $2, slug = $3 where id = $1 and deleted_at is null
returning id, slug, name, is_personal;

-- name: lock_team
-- Members of a team change one after the other: two owners can't leave at the same moment.
select id, is_personal, personal_of from teams where id = $1 and deleted_at is null for update;

-- name: count_projects
select count(*) as count from projects where team_id = $1 and deleted_at is null;

-- name: delete_team
-- Its slug is free again; the row stays, since the projects it had point at it.
update teams set deleted_at = now(), slug = id where id = $1;

-- name: delete_members
delete from team_members where team_id = $1;

-- name: list_members
select m.team_id, m.role, m.is_restricted, m.created_at, u.id as user_id, u.email as user_email, u.name as user_name,
       array(select p.project_id from member_projects p where p.team_id = m.team_id and p.user_id = m.user_id) as projects
from team_members m
join users u on u.id = m.user_id
where m.team_id = $1 and ($2::text is null or m.user_id = $2)
order by array_position(array['owner', 'admin', 'developer', 'viewer'], m.role), lower(u.email);

-- name: count_owners
select count(*) as count from team_members m join users u on u.id = m.user_id
where m.team_id = $1 and m.role = 'owner' and u.disabled_at is null and m.user_id <> $2;

-- name: update_member
update team_members set role = $3, is_restricted = $4 where team_id = $1 and user_id = $2;

-- name: delete_member
delete from team_members where team_id = $1 and user_id = $2;

-- name: forget_team_choice
update sessions set team_id = null where team_id = $1 and ($2::text is null or user_id = $2);

-- name: delete_member_projects
delete from member_projects where team_id = $1 and user_id = $2;

-- name: insert_member_projects
-- Only projects of the team: others are as if they did not exist.
insert into member_projects (team_id, user_id, project_id)
select $1, $2, p.id from projects p
where p.team_id = $1 and p.deleted_at is null and (p.id = any($3::text[]) or p.name = any($3::text[]));

-- name: insert_invitation
insert into invitations (id, team_id, email, role, token_hash, invited_by, expires_at)
values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
returning id, email, role, created_at, expires_at;

-- name: revoke_invitations_for
-- A new invitation of the same address replaces the one before.
update invitations set revoked_at = now()
where team_id = $1 and email = $2 and accepted_at is null and revoked_at is null;

-- name: list_invitations
select id, email, role, created_at, expires_at
from invitations
where team_id = $1 and accepted_at is null and revoked_at is null and expires_at > now()
order by id desc
limit 500;

-- name: revoke_invitation
update invitations set revoked_at = now() where id = $1 and team_id = $2 and accepted_at is null and revoked_at is null;

-- name: revoke_invitations_of_team
update invitations set revoked_at = now() where team_id = $1 and accepted_at is null and revoked_at is null;

-- name: fetch_invitation
-- Nobody may accept for a team whose inviter has left it or may not invite any more.
select i.id, i.email, i.role, i.created_at, i.expires_at,
       t.id as team_id, t.slug as team_slug, t.name as team_name, t.is_personal
from invitations i
join teams t on t.id = i.team_id and t.deleted_at is null
where i.token_hash = $1 and i.accepted_at is null and i.revoked_at is null and i.expires_at > now()
  and exists (select from memberships m
              where m.team_id = i.team_id and m.user_id = i.invited_by and m.role in ('owner', 'admin'));

-- name: use_invitation
-- Once: the second of two at the same time finds it accepted.
update invitations set accepted_at = now()
where id = $1 and accepted_at is null and revoked_at is null and expires_at > now();

-- name: insert_member_if_none
insert into team_members (team_id, user_id, role) values ($1, $2, $3) on conflict do nothing;
