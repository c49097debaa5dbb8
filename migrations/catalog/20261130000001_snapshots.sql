-- Snapshots of other things than tenants, a run of migrations for one: whoever has them stores the newest state of each key
-- here, and the publisher, in whichever process it is, sees to the rest as it does for tenants.
-- migrate:up
create table catalog.snapshot_topic (
    topic text primary key,
    service text not null -- whose it is: nobody else writes there
);

create table catalog.snapshot (
    topic text not null references catalog.snapshot_topic,
    key text not null,
    version bigint not null default 1,
    body jsonb not null,
    traceparent text,
    changed_at timestamptz not null default clock_timestamp(),
    published_version bigint not null default 0,
    primary key (topic, key)
);
create index snapshot_unpublished on catalog.snapshot (changed_at) where published_version < version;
create index snapshot_changed on catalog.snapshot (changed_at);

-- Stores the newest state of a key; version counts up in the snapshot itself ("version"), so that watchers can tell which of
-- two is newer. The same state again changes nothing.
create function catalog.put_snapshot(p_topic text, p_key text, p_body jsonb, p_traceparent text default null) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    if not exists (select from snapshot_topic t where t.topic = p_topic and session_user = 'tenantry_' || t.service) then
        raise exception 'the topic % is not of %', p_topic, session_user using errcode = '42501';
    end if;
    insert into snapshot as s (topic, key, body, traceparent)
    values (p_topic, p_key, p_body, p_traceparent)
    on conflict (topic, key) do update
        set version = s.version + 1,
            body = excluded.body,
            traceparent = excluded.traceparent,
            changed_at = clock_timestamp()
        where s.body is distinct from excluded.body;
end
$$;

-- How a migration gives a service a topic for its snapshots (compacted; `tenantry init` makes it).
create function catalog.add_snapshot_topic(p_topic text, p_service text) returns void
language sql
as $$
    insert into catalog.snapshot_topic (topic, service) values (p_topic, p_service) on conflict do nothing
$$;

-- The publisher's hands, for all topics: up to p_limit of tenants, and as many others.
create function catalog.snapshots_due(p_limit int)
returns table (topic text, key text, version bigint, snapshot text, traceparent text, at text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    select 'tenant.status.v1', tenant_id::text, version, snapshot, traceparent, at
    from snapshots_to_publish(p_limit)
    union all
    (select topic, key, version, (body || jsonb_build_object('version', version))::text, traceparent,
        catalog.json_time(clock_timestamp())
    from snapshot
    where published_version < version
    order by changed_at
    limit p_limit)
$$;

-- p_rows: [{topic, key, version}, ...].
create function catalog.snapshots_done(p_rows jsonb) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    update tenant_status s
    set published_version = greatest(s.published_version, p.version)
    from jsonb_to_recordset(p_rows) p (topic text, key text, version bigint)
    where p.topic = 'tenant.status.v1'
      and s.tenant_id = p.key::uuid;
    update snapshot s
    set published_version = greatest(s.published_version, p.version)
    from jsonb_to_recordset(p_rows) p (topic text, key text, version bigint)
    where s.topic = p.topic
      and s.key = p.key;
end
$$;

-- A publisher that lost its lease with messages on the way has its successor send these again.
create function catalog.snapshots_in_doubt(p_rows jsonb) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    update tenant_status s
    set published_version = least(s.published_version, s.version - 1)
    from jsonb_to_recordset(p_rows) p (topic text, key text)
    where p.topic = 'tenant.status.v1'
      and s.tenant_id = p.key::uuid;
    update snapshot s
    set published_version = least(s.published_version, s.version - 1)
    from jsonb_to_recordset(p_rows) p (topic text, key text)
    where s.topic = p.topic
      and s.key = p.key;
end
$$;

create or replace function catalog.snapshots_since(p_ms bigint) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update tenant_status
    set published_version = least(published_version, version - 1)
    where changed_at > clock_timestamp() - p_ms * interval '1 ms';
    update snapshot
    set published_version = least(published_version, version - 1)
    where changed_at > clock_timestamp() - p_ms * interval '1 ms'
$$;

revoke execute on function catalog.put_snapshot, catalog.add_snapshot_topic, catalog.snapshots_due, catalog.snapshots_done,
    catalog.snapshots_in_doubt from public;
grant execute on function catalog.put_snapshot to tenantry_service;
grant execute on function catalog.snapshots_due, catalog.snapshots_done, catalog.snapshots_in_doubt
    to tenantry_gateway, tenantry_service;
grant select on catalog.snapshot, catalog.snapshot_topic to tenantry_gateway, tenantry_service;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
