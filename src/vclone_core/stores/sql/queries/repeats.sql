-- Requests that may be sent twice and are carried out once.

-- name: claim_repeat
-- A row: the caller carries the request out. A key whose time is over, or whose request was cut before it changed
-- anything, is as good as new. $5 and $6 in seconds.
insert into idempotency_keys as held (owner, key_hash, request_hash, attempt, lease_until, expires_at)
values ($1, $2, $3, $4, now() + make_interval(secs => $5), now() + make_interval(secs => $6))
on conflict (owner, key_hash) do update
set request_hash = excluded.request_hash, attempt = excluded.attempt, lease_until = excluded.lease_until,
    has_begun = false, answer = null, created_at = now(), expires_at = excluded.expires_at
where held.expires_at < now()
   or (held.answer is null and not held.has_begun and held.lease_until < now()
       and held.request_hash = excluded.request_hash)
returning attempt;

-- name: fetch_repeat
select request_hash, answer, lease_until > now() as is_held
from idempotency_keys
where owner = $1 and key_hash = $2 and expires_at > now();

-- name: begin_repeat
-- In the transaction of the first change: from here on the request must not run a second time.
update idempotency_keys set has_begun = true where owner = $1 and key_hash = $2 and attempt = $3;

-- name: store_repeat
update idempotency_keys set answer = $4, has_begun = true, lease_until = now()
where owner = $1 and key_hash = $2 and attempt = $3;

-- name: end_repeat
-- The request came to nothing, or nobody knows to what: the lease is over.
update idempotency_keys set lease_until = now() - interval '1 second'
where owner = $1 and key_hash = $2 and attempt = $3 and answer is null;

-- name: delete_old_repeats
delete from idempotency_keys where expires_at < now();
