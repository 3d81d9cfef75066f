-- Webhooks of teams, and what is sent to them. Events are written by the database itself: see 0008_api.sql.

-- name: insert_webhook
insert into webhooks (id, team_id, project_id, url, events, secret, created_by)
values ($1, $2, $3, $4, $5, $6, $7)
returning *;

-- name: count_webhooks
select count(*) as count from webhooks where team_id = $1;

-- name: list_webhooks
select * from webhooks where team_id = $1 order by id;

-- name: fetch_webhook
select * from webhooks where team_id = $1 and id = $2;

-- name: update_webhook
-- Switched on again it begins anew: what failed before doesn't count.
update webhooks
set url = $3, events = $4, disabled_at = case when $5 then null else coalesce(disabled_at, now()) end,
    disabled_reason = case when $5 then null else coalesce(disabled_reason, 'switched off') end,
    failing_since = case when $5 and disabled_at is not null then null else failing_since end
where team_id = $1 and id = $2
returning *;

-- name: delete_webhook
delete from webhooks where team_id = $1 and id = $2;

-- name: list_sealed_webhooks
select id, secret as value from webhooks where id > $1 order by id limit $2;

-- name: replace_sealed_webhook
update webhooks set secret = $3 where id = $1 and secret = $2;

-- name: tell_team
select tell_team($1, $2, $3, $4::jsonb);

-- name: list_events
-- Newest first. $2: only of these projects, and what is of none; null: all.
select number, at, project_id, kind, facts from team_events
where team_id = $1 and ($2::text[] is null or project_id = any ($2::text[])) and ($3::bigint is null or number < $3)
order by number desc
limit $4;

-- name: read_events
-- Oldest first, behind $3.
select number, at, project_id, kind, facts from team_events
where team_id = $1 and ($2::text[] is null or project_id = any ($2::text[])) and number > $3
order by number
limit $4;

-- name: last_event
select coalesce(max(number), 0) as number from team_events where team_id = $1;

-- name: delete_old_events
delete from team_events where at < now() - make_interval(secs => $1);

-- name: delete_old_sends
delete from webhook_sends where state <> 'waiting' and finished_at < now() - make_interval(secs => $1);

-- name: insert_send
insert into webhook_sends (webhook_id, kind, body)
select w.id, $3, $4::jsonb from webhooks w where w.team_id = $1 and w.id = $2
returning *;

-- name: list_sends
-- Newest first.
select s.* from webhook_sends s
join webhooks w on w.id = s.webhook_id
where w.team_id = $1 and s.webhook_id = $2 and ($3::bigint is null or s.id < $3)
order by s.id desc
limit $4;

-- name: repeat_send
-- The same body again, as a delivery of its own.
insert into webhook_sends (webhook_id, kind, body)
select s.webhook_id, s.kind, s.body from webhook_sends s
join webhooks w on w.id = s.webhook_id
where w.team_id = $1 and s.webhook_id = $2 and s.id = $3
returning *;

-- name: claim_sends
-- Those that are due, one for each webhook, $1 of them, for $2 seconds. A webhook that answers slowly holds up its own.
with due as materialized (
    select distinct on (s.webhook_id) s.id, s.not_before
    from webhook_sends s
    join webhooks w on w.id = s.webhook_id and w.disabled_at is null
    where s.state = 'waiting' and s.not_before <= now()
      and not exists (
          select from webhook_sends b
          where b.webhook_id = s.webhook_id and b.state = 'waiting' and b.lease_until > now())
    order by s.webhook_id, s.not_before, s.id
), taken as (
    select s.id from webhook_sends s
    where s.id in (select id from due order by not_before limit $1)
      and s.state = 'waiting' and (s.lease_until is null or s.lease_until <= now())
    for update skip locked
)
update webhook_sends s
set attempt = s.attempt + 1, lease_until = clock_timestamp() + make_interval(secs => $2)
from taken, webhooks w
where s.id = taken.id and w.id = s.webhook_id
returning s.id, s.webhook_id, s.kind, s.body, s.attempt, w.team_id, w.url, w.secret;

-- name: finish_send
-- The end of one try: $3 the try, $4 the state, $5 seconds until the next. No row: another process has taken it over.
update webhook_sends
set state = $4, tries = tries || $3::jsonb, lease_until = null,
    not_before = clock_timestamp() + make_interval(secs => $5),
    finished_at = case when $4 <> 'waiting' then clock_timestamp() end
where id = $1 and attempt = $2 and state = 'waiting'
returning webhook_id;

-- name: note_arrival
update webhooks set failing_since = null where id = $1 and failing_since is not null;

-- name: note_failure
update webhooks set failing_since = now() where id = $1 and failing_since is null;

-- name: disable_failing
-- A row: it has failed for $2 seconds, and is switched off.
update webhooks set disabled_at = now(), disabled_reason = $3
where id = $1 and disabled_at is null and failing_since < now() - make_interval(secs => $2)
returning id, team_id, project_id, url;

-- name: drop_sends
update webhook_sends set state = 'failed', lease_until = null, finished_at = now()
where webhook_id = $1 and state = 'waiting';
