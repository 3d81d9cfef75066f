-- name: append_lines
-- Stores a batch behind the lines there are, and counts it, in one statement: numbers have no gaps, whatever happens.
-- $4 steps, $5 streams, $6 texts, $7 times, $8 the cap in bytes. Lines past the cap are counted and dropped, but for
-- the platform's own. No row: this attempt no longer holds the build.
with held as (
    select id, log_lines, log_bytes from deployments
    where id = $1 and attempt = $2 and worker_id = $3 and state = 'building'
    for no key update
), measured as (
    select line.*, sum(octet_length(line.text) + 1) over (order by line.place) as running
    from unnest($4::text[], $5::text[], $6::text[], $7::timestamptz[])
        with ordinality as line (step, stream, text, at, place)
), kept as (
    select m.*, held.id, held.log_lines + row_number() over (order by m.place) as number
    from measured m, held
    where m.stream = 'platform' or held.log_bytes + m.running <= $8
), stored as (
    insert into build_logs (deployment_id, number, attempt, step, stream, text, at)
    select id, number, $2, step, stream, text, at from kept
)
update deployments d
set log_lines = held.log_lines + (select count(*) from kept),
    log_bytes = held.log_bytes + (select coalesce(max(running), 0) from measured)
from held
where d.id = held.id
returning d.log_lines as last_number, held.log_bytes > $8 as was_full,
    (select count(*) from measured) - (select count(*) from kept) as dropped;

-- name: list_lines
select number, step, stream, text, at from build_logs
where deployment_id = $1 and number > $2
order by number
limit $3;

-- name: fetch_last_number
select log_lines from deployments where id = $1;
