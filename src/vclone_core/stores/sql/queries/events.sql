-- name: list_moves
select version, host, site from alias_history where version > $1 order by version limit $2;

-- name: fetch_versions
-- The newest version, and the oldest one that is still told; both 0 before the first move.
select coalesce(max(version), 0) as newest, coalesce(min(version), 0) as oldest from alias_history;
