-- Snapshots of other things than tenants, a run of migrations for one: whoever has them stores the newest state of each key
-- here, and the publisher, in whichever process it is, sees to the rest as it does for tenants.
-- migrate:up
-- A key goes into a PostgreSQL index and a Kafka header, so it has a limit, with a clear error.
create function durable.check_key(p_what text, p_key text) returns void
language plpgsql immutable
as $$
begin
    if octet_length(p_key) > 1000 then
        raise exception 'the key of a % has % bytes; 1000 is the most', p_what, octet_length(p_key) using errcode = '22001';
    end if;
end
$$;

create table catalog.snapshot_topic (
    topic text primary key,
    service text not null -- whose it is: nobody else writes there
);

create table catalog.snapshot (
    topic text not null references catalog.snapshot_topic,
    key text not null,
    version bigint not null,
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
create function catalog.put_snapshot(p_topic text, p_key text, p_body jsonb, p_traceparent text default null)
returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    if not exists (select from snapshot_topic t where t.topic = p_topic and session_user = 'tenantry_' || t.service) then
        raise exception 'the topic % is not of %', p_topic, session_user using errcode = '42501';
    end if;
    if jsonb_typeof(p_body) <> 'object' then
        raise exception 'a snapshot is a JSON object, this one is of type %', jsonb_typeof(p_body) using errcode = '22023';
    end if;
    perform durable.check_key('snapshot', p_key);
    -- Numbered like tenants' snapshots: versions also rise after the catalog was restored to an earlier state.
    insert into snapshot as s (topic, key, version, body, traceparent)
    values (p_topic, p_key, (extract(epoch from clock_timestamp()) * 1000)::bigint, p_body, p_traceparent)
    on conflict (topic, key) do update
        set version = greatest(s.version + 1, excluded.version),
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

-- What the publisher should send, except for topics that Kafka refuses.
create function catalog.snapshots_due(p_limit int, p_refused text[])
returns table (topic text, key text, version bigint, snapshot text, traceparent text, at text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    select 'tenant.status.v1', tenant_id::text, version, snapshot, traceparent, at
    from snapshots_to_publish(p_limit)
    where 'tenant.status.v1' <> all (p_refused)
    union all
    (select topic, key, version, (body || jsonb_build_object('version', version))::text, traceparent,
        catalog.json_time(clock_timestamp())
    from snapshot
    where published_version < version
      and topic <> all (p_refused)
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
    where changed_at > statement_timestamp() - p_ms * interval '1 ms';
    update snapshot
    set published_version = least(published_version, version - 1)
    where changed_at > statement_timestamp() - p_ms * interval '1 ms'
$$;

create function catalog.dead_letters_to_publish(p_limit int, p_refused text[])
returns table (service text, id bigint, topic text, message_key text, value text, headers text, code text, field text, detail text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    -- About 8 MiB at once at most, but always one.
    with waiting as (
        select d.id, sum(octet_length(d.value)) over (order by d.id) - octet_length(d.value) as before
        from (
            select id, coalesce(value, '') as value
            from dead_letter
            where not published
              and format('%s.%s.dlq', topic, service) <> all (p_refused)
            order by id
            limit p_limit
        ) d
    )
    select d.service, d.id, topic, base64(message_key), base64(value), headers::text, code, field, detail
    from dead_letter d
    join waiting w using (id)
    where w.before < 8 * 1024 * 1024
    order by d.id
$$;

-- Kafka accepts nothing for this topic; with p_detail null: it does again.
create function catalog.topic_refused(p_topic text, p_detail text) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    if p_detail is null then
        perform resolve_alert('topic:' || p_topic);
    else
        perform raise_alert('topic:' || p_topic, null, 'Kafka accepts nothing for a topic', format('%s: %s', p_topic, p_detail));
    end if;
end
$$;

-- Another process has become the publisher: it sends recent changes again, and tries all topics again.
create function catalog.publishing_taken_over(p_ms bigint) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    perform snapshots_since(p_ms);
    perform resolve_alerts('topic:%', '{}');
end
$$;

revoke execute on function catalog.put_snapshot, catalog.add_snapshot_topic, catalog.snapshots_due, catalog.snapshots_done,
    catalog.snapshots_in_doubt, catalog.dead_letters_to_publish(int, text[]), catalog.topic_refused,
    catalog.publishing_taken_over from public;
grant execute on function catalog.put_snapshot to tenantry_service;
grant execute on function catalog.snapshots_due, catalog.snapshots_done, catalog.snapshots_in_doubt,
    catalog.dead_letters_to_publish(int, text[]), catalog.topic_refused, catalog.publishing_taken_over
    to tenantry_gateway, tenantry_service;
grant select on catalog.snapshot, catalog.snapshot_topic to tenantry_gateway, tenantry_service;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
