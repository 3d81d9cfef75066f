-- What an upload consisted of, beside its deployment; and what retention and collection of storage need to know.

create table deployment_sources (
    deployment_id text primary key references deployments on delete cascade,
    -- Its files as rules/sources.py packs them.
    files bytea not null
);
-- Packed already.
alter table deployment_sources alter column files set storage external;

-- A blob whose object is being removed, and was: nobody is told that it is here, and only who stored the object after
-- that may say that it is again. The row stays for a day, so that whoever saw the object before learns of it.
alter table blobs add column collecting_since timestamptz;
alter table blobs add column collected_at timestamptz;
create index blobs_unneeded on blobs (project_id, last_needed_at);

-- What a project says otherwise than the platform's defaults.
alter table projects add column retention jsonb not null default '{}';
-- When the storage of a deleted project was freed.
alter table projects add column freed_at timestamptz;

-- Work that one process at a time does for the whole platform.
create table leases (
    name text primary key,
    holder text not null,
    held_until timestamptz not null
);
