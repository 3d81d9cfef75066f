-- name: lock_audit_chain
-- Entries of a team are written one after the other, each with the hash of the one before. The clock is the database's.
select pg_advisory_xact_lock(hashtextextended('audit:' || $1, 0));

-- name: fetch_audit_end
select clock_timestamp() as now,
       (select encode(hash, 'hex') from audit_log where team_id = $1 and hash is not null
        order by number desc limit 1) as hash;

-- name: insert_audit_entry
insert into audit_log
    (at, team_id, actor_id, action, subject, facts, request_id, address, previous_hash, hash)
values ($1, $2, $3, $4, $5, $6, $7, $8, decode($9, 'hex'), decode($10, 'hex'));

-- name: list_audit_entries
-- Newest first.
select number, at, team_id, actor_id, action, subject, facts, request_id, address,
       encode(previous_hash, 'hex') as previous_hash, encode(hash, 'hex') as hash
from audit_log
where team_id = $1 and hash is not null and ($2::bigint is null or number < $2)
  and ($3::text is null or action = $3) and ($4::text is null or actor_id = $4)
order by number desc
limit $5;

-- name: read_audit_entries
-- Oldest first, for an export.
select number, at, team_id, actor_id, action, subject, facts, request_id, address,
       encode(previous_hash, 'hex') as previous_hash, encode(hash, 'hex') as hash
from audit_log
where team_id = $1 and hash is not null and number > $2
order by number
limit $3;

-- name: insert_pending_change
-- In the transaction of the change itself.
insert into pending_changes (request_id, team_id, actor_id, action, subject, facts, address)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing;

-- name: delete_pending_change
delete from pending_changes where request_id = $1;

-- name: take_stale_change
-- One whose request has been over for long, without an entry: its process ended in between.
delete from pending_changes
where request_id = (
    select request_id from pending_changes where at < now() - make_interval(secs => $1)
    order by at limit 1 for update skip locked)
returning request_id, team_id, actor_id, action, subject, facts, address;
