-- What survives a crash: leases, claims, rate budgets and alerts once for all; inbox, offsets, dead letters and sagas
-- in each service's own schema, made by create_durable_tables. Functions here find them by the caller's search_path.
-- migrate:up
set local check_function_bodies = off; -- the tables below are found at run time, in the caller's own schema

create sequence catalog.fence;
grant usage on sequence catalog.fence to tenantry_provisioner, tenantry_migrator, tenantry_billing, tenantry_gateway;

-- Always higher than before, also in a catalog that was restored: databases of tenants remember the fences of the time
-- that was lost, and would refuse a lower one. So no fence is below the microseconds since 1970.
create function catalog.next_fence() returns bigint
language sql security definer
set search_path = catalog, pg_temp
as $$
    select setval('catalog.fence',
        greatest(nextval('catalog.fence'), (extract(epoch from clock_timestamp()) * 1000000)::bigint))
$$;

create table catalog.lease (
    name text primary key,
    holder text not null,
    fence bigint not null,
    until timestamptz not null
);

-- Takes or renews. Returns the fence, or null while another holder's lease runs.
create function catalog.take_lease(p_name text, p_holder text, p_ms bigint) returns bigint
language sql security definer
set search_path = catalog, pg_temp
as $$
    insert into lease as l (name, holder, fence, until)
    select p_name, p_holder, catalog.next_fence(), clock_timestamp() + least(p_ms, 3600000) * interval '1 ms'
    where session_user <> 'tenantry_gateway' or p_name = 'publisher' -- the one thing a gateway leads in
    on conflict (name) do update
        set holder = excluded.holder,
            fence = case when l.holder = excluded.holder then l.fence else excluded.fence end,
            until = excluded.until
        where l.holder = excluded.holder
           or l.until < clock_timestamp()
    returning fence
$$;

create function catalog.drop_lease(p_name text, p_holder text) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update lease
    set until = '-infinity'
    where name = p_name
      and holder = p_holder
$$;

-- One activity on a tenant at a time. The holder is a durable row (a saga, a migration job): the claim lives as long.
create table catalog.tenant_claim (
    tenant_id uuid primary key,
    kind text not null,
    holder uuid not null,
    taken_at timestamptz not null default clock_timestamp()
);
grant select, insert, delete on catalog.tenant_claim to tenantry_provisioner, tenantry_migrator;

-- Token buckets shared by all processes: one row per provider endpoint. A token may be taken from the future, so a bucket is
-- also a queue, and the order of asking is the order of going. A place in it is an instant of the queue's own clock, which
-- stands still while the provider makes us wait or somebody is let in before the others. Those who are let in have places of
-- their own, for more of them do not move them.
create table catalog.rate_budget (
    name text primary key,
    tokens double precision not null, -- below 0: so many places are given away
    capacity double precision not null,
    per_second double precision not null,
    refilled_at timestamptz not null default clock_timestamp(),
    blocked_until timestamptz not null default '-infinity',
    blocked interval not null default '0', -- for so long in all
    let_in interval not null default '0', -- so much time was given to those who were let in
    front timestamptz not null default '-infinity' -- when the next one may go that is let in
);

-- The bucket as it is now, locked.
create function catalog.settled_budget(p_name text, p_capacity double precision, p_per_second double precision)
returns catalog.rate_budget
language plpgsql
set search_path = catalog, pg_temp
as $$
declare
    v rate_budget;
    v_now timestamptz;
begin
    insert into rate_budget (name, tokens, capacity, per_second)
    values (p_name, p_capacity, p_capacity, p_per_second)
    on conflict (name) do nothing;

    select * into v from rate_budget where name = p_name for update;
    v_now := greatest(clock_timestamp(), v.blocked_until);
    -- The clock went back: nothing would be refilled until it has caught up.
    v.refilled_at := least(v.refilled_at, v_now + p_capacity / p_per_second * interval '1 second');
    v.tokens := least(p_capacity, v.tokens + greatest(0, extract(epoch from v_now - v.refilled_at)) * p_per_second);
    v.refilled_at := greatest(v_now, v.refilled_at);
    v.capacity := p_capacity;
    v.per_second := p_per_second;
    return v;
end
$$;

create function catalog.save_budget(v catalog.rate_budget) returns void
language sql
set search_path = catalog, pg_temp
as $$
    update rate_budget
    set tokens = v.tokens, capacity = v.capacity, per_second = v.per_second, refilled_at = v.refilled_at,
        blocked_until = v.blocked_until, blocked = v.blocked, let_in = v.let_in, front = v.front
    where name = v.name
$$;

create function catalog.ms_until(p_time timestamptz) returns bigint
language sql
as $$
    select greatest(0, ceil(extract(epoch from p_time - clock_timestamp()) * 1000))::bigint
$$;

-- A token: the milliseconds until it may be used (0 = now), and the place in the queue that use_turn wants to see then.
create function catalog.take_token(
    p_name text, p_capacity double precision, p_per_second double precision, out wait_ms bigint, out place timestamptz
)
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v rate_budget := settled_budget(p_name, p_capacity, p_per_second);
    v_due timestamptz;
begin
    v.tokens := v.tokens - 1;
    v_due := greatest(clock_timestamp(), v.blocked_until)
             + greatest(0, -v.tokens) / p_per_second * interval '1 second';
    perform save_budget(v);
    wait_ms := ms_until(v_due);
    place := v_due - v.blocked - v.let_in;
end
$$;

-- A place that was given earlier: the milliseconds until it may be used, for others may have been let in before it since,
-- or the provider has said "not before". Who comes late by more than p_keeps_ms (it was killed, the catalog was away, or the
-- provider refused it: place '-infinity') is let in before all who still wait, one after the other: after an outage all the
-- missed ones would go at once, and the oldest must not queue again behind the youngest. Its place is a new one then, to be
-- shown with p_first.
create function catalog.use_turn(
    p_name text, p_capacity double precision, p_per_second double precision, p_place timestamptz, p_first boolean,
    p_keeps_ms bigint, out wait_ms bigint, out place timestamptz, out first boolean
)
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v rate_budget := settled_budget(p_name, p_capacity, p_per_second);
    v_interval interval := interval '1 second' / p_per_second;
    v_turn timestamptz := p_place + v.blocked + case when p_first then interval '0' else v.let_in end;
    v_due timestamptz := greatest(v_turn, v.blocked_until);
begin
    first := p_first;
    place := p_place;
    if v_turn < clock_timestamp() - p_keeps_ms * interval '1 ms' then
        v_due := greatest(clock_timestamp(), v.blocked_until);
        v.tokens := v.tokens - 1;
        if v.tokens < 0 then
            v_due := greatest(v_due, v.front);
            v.front := v_due + v_interval;
            v.let_in := v.let_in + v_interval;
        end if;
        perform save_budget(v);
        first := true;
        place := v_due - v.blocked;
    end if;
    wait_ms := ms_until(v_due);
end
$$;

-- The provider said "not before": everybody waits, and keeps their place.
create function catalog.block_budget(p_name text, p_ms bigint) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v rate_budget;
    v_until timestamptz := clock_timestamp() + p_ms * interval '1 ms';
begin
    select b.* into v from rate_budget r, settled_budget(r.name, r.capacity, r.per_second) b where r.name = p_name;
    if v.blocked_until < v_until then
        v.blocked := v.blocked + (v_until - greatest(clock_timestamp(), v.blocked_until));
        v.tokens := least(v.tokens, 0);
        v.refilled_at := v_until; -- nothing is refilled meanwhile
        v.front := v.front + (v_until - greatest(clock_timestamp(), v.blocked_until));
        v.blocked_until := v_until;
        perform save_budget(v);
    end if;
end
$$;

-- What an operator must know, one open row per cause; one that goes on is told again every hour.
create table catalog.alert (
    alert_id bigint generated always as identity primary key,
    cause text not null,
    tenant_id uuid,
    title text not null,
    detail text not null,
    times bigint not null default 1,
    first_at timestamptz not null default clock_timestamp(),
    last_at timestamptz not null default clock_timestamp(),
    log_at timestamptz,     -- when each channel was last told; a channel that refuses holds up no other
    webhook_at timestamptz,
    mail_at timestamptz,
    failures int not null default 0,
    next_at timestamptz not null default clock_timestamp(),
    resolved_at timestamptz
);
create unique index alert_open on catalog.alert (cause) where resolved_at is null;

create function catalog.raise_alert(p_cause text, p_tenant_id uuid, p_title text, p_detail text) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    insert into alert as a (cause, tenant_id, title, detail)
    values (p_cause, p_tenant_id, p_title, p_detail)
    on conflict (cause) where resolved_at is null do update
        set times = a.times + 1, last_at = clock_timestamp(), detail = excluded.detail
$$;

create function catalog.resolve_alert(p_cause text) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update alert
    set resolved_at = clock_timestamp()
    where cause = p_cause
      and resolved_at is null
$$;

-- Open alerts that one of these channels (log, webhook, mail) was not told of, or not within the last hour while they go
-- on; channels: those that are due. A refused one is tried again later and later, up to an hour.
create function catalog.alerts_to_deliver(p_channels text[])
returns table (alert_id bigint, cause text, tenant_id uuid, title text, detail text, channels text[])
language sql security definer
set search_path = catalog, pg_temp
as $$
    select a.alert_id, a.cause, a.tenant_id, a.title, a.detail, d.channels
    from alert a,
        lateral (
            select array_agg(c.channel) as channels
            from unnest(array['log', 'webhook', 'mail'], array[a.log_at, a.webhook_at, a.mail_at]) c (channel, told_at)
            where c.channel = any (p_channels)
              and (c.told_at is null or (c.told_at < a.last_at and c.told_at < clock_timestamp() - interval '1 hour'))
        ) d
    where a.resolved_at is null
      and a.next_at <= clock_timestamp()
      and d.channels is not null
    order by a.next_at
    limit 20
$$;

create function catalog.alert_told(p_alert_id bigint, p_channels text[], p_all boolean) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update alert
    set log_at = case when 'log' = any (p_channels) then clock_timestamp() else log_at end,
        webhook_at = case when 'webhook' = any (p_channels) then clock_timestamp() else webhook_at end,
        mail_at = case when 'mail' = any (p_channels) then clock_timestamp() else mail_at end,
        failures = case when p_all then 0 else failures + 1 end,
        next_at = clock_timestamp()
            + case when p_all then interval '0' else least(interval '5 seconds' * 2 ^ least(failures, 10), '1 hour') end
    where alert_id = p_alert_id
$$;

revoke execute on all functions in schema catalog from public;
grant execute on all functions in schema catalog to tenantry_provisioner, tenantry_migrator, tenantry_billing;
grant execute on function catalog.business_now, catalog.json_time, catalog.wanted_access, catalog.take_lease,
    catalog.drop_lease to tenantry_gateway;

-- The tables each service has for itself.
create function durable.create_tables(p_schema text, p_role text) returns void
language plpgsql
as $do$
begin
    execute format($$
        create table %1$I.inbox (
            source text not null,
            event_id text not null,
            body_hash text not null,
            taken_at timestamptz not null default clock_timestamp(),
            primary key (source, event_id)
        );
        create table %1$I.consumer_offset (
            topic text not null,
            partition int not null,
            next_offset bigint not null,
            primary key (topic, partition)
        );
        create table %1$I.dead_letter (
            id bigint generated always as identity primary key,
            topic text not null,
            partition int not null,
            at_offset bigint not null,
            message_key bytea,
            headers jsonb not null,
            value bytea,
            code text not null,
            field text,
            detail text not null,
            at timestamptz not null default clock_timestamp(),
            published boolean not null default false
        );
        create index dead_letter_unpublished on %1$I.dead_letter (id) where not published;
        create index dead_letter_age on %1$I.dead_letter using brin (at);
        create index inbox_age on %1$I.inbox using brin (taken_at);
        create table %1$I.parked (
            id bigint generated always as identity primary key,
            tenant_id uuid,
            reason text not null,
            event jsonb not null,
            data jsonb not null,
            at timestamptz not null default clock_timestamp()
        );
        create index parked_of_tenant on %1$I.parked (tenant_id);
        create table %1$I.saga (
            saga_id uuid primary key default gen_random_uuid(),
            tenant_id uuid not null,
            kind text not null,
            step text not null,
            status text not null default 'running'
                check (status in ('running', 'undoing', 'done', 'failed', 'cancelled', 'attention')),
            attempt int not null default 0,
            crashes int not null default 0,
            progress int not null default 0,
            cancel_wanted boolean not null default false,
            background boolean not null default false, -- long and patient: gives way to what somebody waits for
            next_at timestamptz not null default clock_timestamp(),
            step_since timestamptz not null default catalog.business_now(),
            owner text,
            lease_until timestamptz,
            fence bigint not null default 0,
            data jsonb not null default '{}',
            error jsonb,
            caused_by text,
            traceparent text,
            created_at timestamptz not null default clock_timestamp(),
            finished_at timestamptz
        );
        create index saga_due on %1$I.saga (background, next_at) where status in ('running', 'undoing');
        create index saga_age on %1$I.saga (finished_at) where finished_at is not null;
        create index saga_of_tenant on %1$I.saga (tenant_id, created_at);
        grant select, insert, update, delete on %1$I.inbox, %1$I.consumer_offset, %1$I.dead_letter, %1$I.parked,
            %1$I.saga to %2$I;
    $$, p_schema, p_role);
end
$do$;

create function durable.raise_expired(p_topic text, p_partition int, p_from bigint, p_to bigint) returns void
language sql
as $$
    select catalog.raise_alert(format('messages-expired:%s/%s@%s', p_topic, p_partition, p_from), null,
        'messages were deleted before they were read',
        format('Kafka deleted the offsets %s to %s of %s/%s, which the catalog had not taken; what they asked for must be '
               'sent again', p_from, p_to - 1, p_topic, p_partition))
$$;

-- The one gate for messages: moves the partition's offset and looks the event up in the inbox, in the caller's
-- transaction. Returns
--   new        take it
--   duplicate  taken before: skip
--   conflict   another event was taken under this id: quarantine
--   seen       this offset was dealt with by another process: skip
--   behind     the catalog stands before what the reader believes (it was restored): nothing was changed, seek back
-- An offset below the one that was asked for is in a log that began anew (a topic or a cluster made again): offsets are
-- counted from there, and the inbox knows what was taken in the log's former life.
create function durable.take_message(
    p_topic text,
    p_partition int,
    p_offset bigint,
    p_previous bigint,
    p_log_start bigint,
    p_source text,
    p_event_id text,
    p_body_hash text
) returns text
language plpgsql
as $$
declare
    v_next bigint;
    v_hash text;
begin
    select next_offset into v_next
    from consumer_offset
    where topic = p_topic
      and partition = p_partition
    for update;

    if p_previous >= 0 and coalesce(v_next, -1) < p_previous then
        return 'behind';
    end if;
    if p_offset < p_previous and v_next = p_previous then
        perform catalog.raise_alert('log-began-anew:' || p_topic, null, 'a topic began anew',
            format('%s/%s stands at offset %s where %s was expected: topic or cluster was made again; messages that '
                   'were lost with it must be sent again', p_topic, p_partition, greatest(p_offset, 0), p_previous));
    elsif v_next > p_offset then
        return 'seen';
    end if;
    if p_log_start > v_next then
        perform durable.raise_expired(p_topic, p_partition, v_next, p_log_start);
    end if;
    insert into consumer_offset (topic, partition, next_offset)
    values (p_topic, p_partition, p_offset + 1)
    on conflict (topic, partition) do update
        set next_offset = excluded.next_offset;

    if p_event_id is null then
        return 'new';
    end if;
    insert into inbox (source, event_id, body_hash)
    values (p_source, p_event_id, p_body_hash)
    on conflict do nothing;
    if found then
        return 'new';
    end if;
    select body_hash into v_hash
    from inbox
    where source = p_source
      and event_id = p_event_id;
    return case when v_hash = p_body_hash then 'duplicate' else 'conflict' end;
end
$$;

create function durable.put_dead_letter(p_message jsonb, p_code text, p_field text, p_detail text) returns void
language sql
as $$
    insert into dead_letter (topic, partition, at_offset, message_key, headers, value, code, field, detail)
    values (p_message ->> 'topic', (p_message ->> 'partition')::int, (p_message ->> 'offset')::bigint,
            decode(p_message ->> 'key', 'base64'), coalesce(p_message -> 'headers', '[]'),
            decode(p_message ->> 'value', 'base64'), p_code, p_field, p_detail)
$$;

-- Work that is due, oldest first, for a worker that knows these kinds and steps. A saga whose owner's lease ran out
-- counts a crash. A worker takes its own back at once when it has lost sight of it (p_held is what it still sees).
-- p_limit: how many in all; p_background: how many of these may be long and patient ones.
create function durable.saga_claim(
    p_owner text,
    p_kinds text[],
    p_held uuid[],
    p_lease_ms bigint,
    p_limit int,
    p_background int
)
returns table (
    saga_id uuid, tenant_id uuid, kind text, step text, status text, attempt int, crashes int, fence bigint, data jsonb,
    step_age_ms bigint, cancel_wanted boolean, background boolean, error jsonb, context jsonb
)
language sql
as $$
    with prompt as (
        select d.saga_id
        from saga d
        where d.status in ('running', 'undoing')
          and not d.background
          and d.next_at <= clock_timestamp()
          and not d.saga_id = any (p_held)
          and (d.lease_until is null or d.lease_until < clock_timestamp() or d.owner = p_owner)
          and d.kind || '/' || d.step = any (p_kinds)
        order by d.next_at
        limit p_limit
        for update skip locked
    ), patient as (
        select d.saga_id
        from saga d
        where d.status in ('running', 'undoing')
          and d.background
          and d.next_at <= clock_timestamp()
          and not d.saga_id = any (p_held)
          and (d.lease_until is null or d.lease_until < clock_timestamp() or d.owner = p_owner)
          and d.kind || '/' || d.step = any (p_kinds)
        order by d.next_at
        limit greatest(0, least(p_background, p_limit - (select count(*) from prompt)))
        for update skip locked
    )
    update saga s
    set owner = p_owner,
        lease_until = clock_timestamp() + p_lease_ms * interval '1 ms',
        crashes = s.crashes + (s.lease_until is not null and s.owner <> p_owner)::int,
        fence = catalog.next_fence()
    from (select saga_id from prompt union all select saga_id from patient) due
    where s.saga_id = due.saga_id
    returning s.saga_id, s.tenant_id, s.kind, s.step, s.status, s.attempt, s.crashes, s.fence, s.data,
        (extract(epoch from catalog.business_now() - s.step_since) * 1000)::bigint, s.cancel_wanted, s.background, s.error,
        saga_context(s.tenant_id)
$$;

-- Raises TN409 when the saga is not the caller's any more: whoever was frozen or late stops here.
create function durable.saga_check(p_saga_id uuid, p_fence bigint) returns void
language plpgsql
as $$
begin
    perform from saga
    where saga_id = p_saga_id
      and fence = p_fence
      and status in ('running', 'undoing')
    for update;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
end
$$;

-- Renews what a worker holds; a saga that is missing from the answer was taken over.
create function durable.saga_renew(p_owner text, p_held uuid[], p_lease_ms bigint)
returns table (saga_id uuid, cancel_wanted boolean)
language sql
as $$
    update saga s
    set lease_until = clock_timestamp() + p_lease_ms * interval '1 ms'
    where s.owner = p_owner
      and s.saga_id = any (p_held)
    returning s.saga_id, s.cancel_wanted
$$;

-- The backlog, for gauges and autoscalers.
create function durable.saga_backlog() returns table (due bigint, oldest_seconds double precision)
language sql
as $$
    select count(*), coalesce(extract(epoch from clock_timestamp() - min(next_at)), 0)
    from saga
    where status in ('running', 'undoing')
      and next_at <= clock_timestamp()
      and lease_until is null
$$;

-- From one step to the next (forwards, or backwards while undoing). Returns whether somebody wants it cancelled.
create function durable.saga_advance(
    p_saga_id uuid,
    p_fence bigint,
    p_from text,
    p_to text,
    p_status text,
    p_progress int,
    p_data jsonb,
    p_error jsonb,
    p_lease_ms bigint,
    p_background boolean
) returns boolean
language plpgsql
as $$
declare
    v saga;
begin
    update saga
    set step = p_to,
        status = p_status,
        progress = p_progress,
        data = p_data,
        error = p_error,
        attempt = 0,
        crashes = 0,
        background = p_background and not cancel_wanted,
        step_since = catalog.business_now(),
        lease_until = clock_timestamp() + p_lease_ms * interval '1 ms'
    where saga_id = p_saga_id
      and fence = p_fence
      and step = p_from
      and status in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    perform catalog.record_change(
        v.tenant_id, 'tenant.activity.progressed.v1',
        jsonb_build_object('activity', v.kind, 'step', v.step, 'status', v.status, 'progress', v.progress,
                           'error', v.error),
        v.caused_by, v.traceparent);
    return v.cancel_wanted;
end
$$;

-- Puts it down until later. p_failed counts an attempt; the error is told once, not at each retry.
create function durable.saga_park(
    p_saga_id uuid,
    p_fence bigint,
    p_data jsonb,
    p_delay_ms bigint,
    p_failed boolean,
    p_error jsonb,
    p_cancel_known boolean -- else it was asked for while the worker had the saga in hand, which must hear of it soon
) returns void
language plpgsql
as $$
declare
    v saga;
    v_known text;
begin
    select error ->> 'code' into v_known
    from saga
    where saga_id = p_saga_id;

    update saga
    set owner = null,
        lease_until = null,
        data = p_data,
        attempt = attempt + p_failed::int,
        next_at = clock_timestamp()
            + case when cancel_wanted and not p_cancel_known then 0 else p_delay_ms end * interval '1 ms',
        error = coalesce(p_error, error)
    where saga_id = p_saga_id
      and fence = p_fence
      and status in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    if p_error is not null and p_error ->> 'code' is distinct from v_known then
        perform catalog.record_change(
            v.tenant_id, 'tenant.activity.delayed.v1',
            jsonb_build_object('activity', v.kind, 'step', v.step, 'error', p_error),
            v.caused_by, v.traceparent);
    end if;
end
$$;

-- The end: done, failed (undone), cancelled (undone) or attention (stopped after its point of no return). Gives the
-- tenant free and lets the service draw its conclusions by its own saga_ended(saga, tenant).
create function durable.saga_end(
    p_saga_id uuid,
    p_fence bigint,
    p_from text,
    p_status text,
    p_data jsonb,
    p_error jsonb
) returns void
language plpgsql
as $$
declare
    v saga;
begin
    perform lock_tenant((select tenant_id from saga where saga_id = p_saga_id)); -- first, as commands do
    update saga
    set status = p_status,
        data = p_data,
        error = p_error,
        progress = case when p_status = 'done' then 100 else progress end,
        owner = null,
        lease_until = null,
        finished_at = clock_timestamp()
    where saga_id = p_saga_id
      and fence = p_fence
      and step = p_from
      and status in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    delete from catalog.tenant_claim
    where tenant_id = v.tenant_id
      and holder = v.saga_id;
    perform saga_ended(v.saga_id);
end
$$;

grant execute on all functions in schema durable to tenantry_provisioner, tenantry_migrator, tenantry_billing;
revoke execute on function durable.create_tables from tenantry_provisioner, tenantry_migrator, tenantry_billing;

-- migrate:down
drop function durable.create_tables, durable.take_message, durable.raise_expired, durable.put_dead_letter,
    durable.saga_claim, durable.saga_check, durable.saga_renew, durable.saga_backlog, durable.saga_advance,
    durable.saga_park, durable.saga_end;
drop function catalog.next_fence, catalog.take_lease, catalog.drop_lease, catalog.take_token, catalog.use_turn,
    catalog.block_budget, catalog.settled_budget, catalog.save_budget, catalog.ms_until, catalog.raise_alert, catalog.resolve_alert, catalog.alerts_to_deliver, catalog.alert_told;
drop table catalog.lease, catalog.tenant_claim, catalog.rate_budget, catalog.alert;
drop sequence catalog.fence;
