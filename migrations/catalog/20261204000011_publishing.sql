-- The publisher waited, with rows that it had locked, for rows that a batch of the intake had locked and the other way round: a
-- deadlock, which PostgreSQL ends after a second. A row that is locked is about to change, so that its snapshot is sent again anyway;
-- at worst the same version is sent twice.
-- migrate:up
create or replace function catalog.snapshots_done(p_rows jsonb) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    update tenant_status s
    set published_version = greatest(s.published_version, mine.version)
    from (
        select free.tenant_id, p.version
        from jsonb_to_recordset(p_rows) p (topic text, key text, version bigint)
        join tenant_status free on free.tenant_id = p.key::uuid
        where p.topic = 'tenant.status.v1'
        for update of free skip locked) mine
    where s.tenant_id = mine.tenant_id;
    update snapshot s
    set published_version = greatest(s.published_version, mine.version)
    from (
        select free.topic, free.key, p.version
        from jsonb_to_recordset(p_rows) p (topic text, key text, version bigint)
        join snapshot free on free.topic = p.topic and free.key = p.key
        for update of free skip locked) mine
    where s.topic = mine.topic
      and s.key = mine.key;
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
