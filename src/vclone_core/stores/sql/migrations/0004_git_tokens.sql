-- One token for a team and a host; the newest stays where there were more.
delete from git_tokens older using git_tokens newer
where older.team_id = newer.team_id and older.host = newer.host and older.id < newer.id;
create unique index git_tokens_host on git_tokens (team_id, host);
