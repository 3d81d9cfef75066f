-- A claim of a host name by a project: where it stands (rules/domains.py), since when, and when it is looked at next.
alter table domains
    add column state text not null default 'pending'
        check (state in ('pending', 'misrouted', 'active', 'failing', 'lapsed')),
    -- The host shows the newest deployment of this branch instead of production.
    add column branch text,
    add column since timestamptz not null default now(),
    -- Null: not by itself. Whoever looks at it moves this first, so that nobody else does at the same time.
    add column next_check_at timestamptz default now();
update domains set state = 'active' where verified_at is not null;
alter table domains add constraint domains_verified
    check ((verified_at is not null) = (state in ('misrouted', 'active', 'failing')));
create index domains_due on domains (next_check_at) where next_check_at is not null;
create index domains_host on domains (host);

-- Where a held domain redirects to; only while that is held by the same project: nobody is sent to what became another's.
create view domain_redirects as
    select d.host, d.redirect_to
    from domains d
    join domains t on t.host = d.redirect_to and t.project_id = d.project_id and t.verified_at is not null
    where d.verified_at is not null;
