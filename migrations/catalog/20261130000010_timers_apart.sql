-- No timer and no snapshot topic can block the others, or make them fail.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find timer_due by the caller's search_path

-- In the order in which they fire: many may be due at the same instant, and each round had to sort them all.
create index timer_order on catalog.timer (service, due_at, name, key);
drop index catalog.timer_due;

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

-- Resolves the alerts about a service's timers that no longer fail: they succeeded, were set again, or were dropped. This runs
-- twice a second, and must not depend on how many other alerts are open.
create index alert_of_timers on catalog.alert (cause) where resolved_at is null and cause like 'timer:%';
create function catalog.resolve_timer_alerts(p_service text) returns void
language sql security definer
set search_path = catalog, pg_temp
set enable_seqscan = off
as $$
    update alert
    set resolved_at = clock_timestamp()
    where resolved_at is null
      and cause like 'timer:%'
      and split_part(cause, ':', 2) = p_service
      and cause <> all (array(
          select distinct format('timer:%s:%s', service, name)
          from timer
          where service = p_service
            and attempts > 0))
$$;
revoke execute on function catalog.resolve_timer_alerts from public;
grant execute on function catalog.resolve_timer_alerts to tenantry_service;

-- The failing ones, for the function above.
create index timer_failing on catalog.timer (service, name) where attempts > 0;

create or replace function durable.set_timer(p_name text, p_key text, p_due_at timestamptz) returns void
language plpgsql
as $$
begin
    perform check_key('timer', p_name || p_key);
    insert into catalog.timer (service, name, key, due_at)
    values (current_schema(), p_name, p_key, p_due_at)
    on conflict (service, name, key) do update
        set due_at = excluded.due_at,
            attempts = 0,
            not_before = '-infinity',
            error = null;
end
$$;

-- Postpones a timer that failed: longer each time, up to ten minutes, with an alert.
create function durable.put_timer_off(p_name text, p_key text, p_error text) returns void
language plpgsql
as $$
begin
    update catalog.timer
    set attempts = attempts + 1,
        not_before = clock_timestamp() + least(600, power(2, least(attempts, 20))) * interval '1 second',
        error = p_error
    where service = current_schema() and name = p_name and key = p_key
      and due_at <= catalog.business_now(); -- not one that was set anew meanwhile
    if found then
        perform catalog.raise_alert(format('timer:%s:%s', current_schema(), p_name), null, 'a timer''s work fails',
                                    format('%s: %s', p_key, p_error));
    end if;
end
$$;

-- Calls the service's timer_due(name, key, due_at) for up to p_limit timers that are due, earliest first, each in a
-- transaction within this one; it may set or drop this timer and others. One that fails, or waits too long for a lock, is
-- postponed and does not block the others; after a second the rest is left for the next call. Returns how many were due.
create or replace function durable.fire_timers(p_limit int) returns int
language plpgsql
as $$
declare
    v catalog.timer;
    v_now timestamptz := catalog.business_now();
    v_until timestamptz := clock_timestamp() + interval '1 second';
    v_due int := 0;
begin
    perform set_config('lock_timeout', '3s', true);
    for v in
        select *
        from catalog.timer
        where service = current_schema()
          and due_at <= v_now
          and not_before <= statement_timestamp()
        order by due_at, name, key
        limit p_limit
        for update skip locked
    loop
        v_due := v_due + 1;
        begin
            -- The loop reads ahead: an earlier timer may have dropped this one or set it again, and that must stand.
            delete from catalog.timer
            where service = v.service and name = v.name and key = v.key and due_at = v.due_at;
            if found then
                perform timer_due(v.name, v.key, v.due_at);
            end if;
        exception when others then
            perform put_timer_off(v.name, v.key, sqlerrm);
        end;
        exit when clock_timestamp() > v_until;
    end loop;
    perform catalog.resolve_timer_alerts(current_schema()::text);
    return v_due;
end
$$;

-- If a call of fire_timers failed as a whole, because the work of one timer did not end or killed the connection, they are
-- fired by name, one by one, to find out which one it is.
create function durable.next_timer(out name text, out key text) returns setof record
language sql
as $$
    select name, key
    from catalog.timer
    where service = current_schema()
      and due_at <= catalog.business_now()
      and not_before <= statement_timestamp()
    order by due_at, name, key
    limit 1
$$;

create function durable.fire_timer(p_name text, p_key text) returns void
language plpgsql
as $$
declare
    v catalog.timer;
begin
    perform set_config('lock_timeout', '3s', true);
    delete from catalog.timer
    where service = current_schema() and name = p_name and key = p_key and due_at <= catalog.business_now()
    returning * into v;
    if found then
        perform timer_due(v.name, v.key, v.due_at);
    end if;
end
$$;
grant execute on function durable.check_key, durable.put_timer_off, durable.next_timer, durable.fire_timer to tenantry_service;

create or replace function catalog.put_snapshot(p_topic text, p_key text, p_body jsonb, p_traceparent text default null)
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

revoke execute on function catalog.snapshots_due(int, text[]), catalog.dead_letters_to_publish(int, text[]),
    catalog.topic_refused, catalog.publishing_taken_over from public;
grant execute on function catalog.snapshots_due(int, text[]), catalog.dead_letters_to_publish(int, text[]),
    catalog.topic_refused, catalog.publishing_taken_over to tenantry_gateway, tenantry_service;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
