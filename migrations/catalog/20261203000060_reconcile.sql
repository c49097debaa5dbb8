-- Reconcile: what Stripe has and was not told here, by its list of events and by that of its subscriptions; what differs is
-- recorded, and mended by the same functions that apply what is told. Also: duplicates, and payments that are nobody's.
-- migrate:up
set local check_function_bodies = off;

-- The two comparisons, and where each stands. due_at: of its next run, or of the next page of the one under way; who has taken a
-- page has it until then, so that one process at a time is at work, and another goes on at the page where one has died.
create table billing.reconcile (
    kind text primary key check (kind in ('events', 'subscriptions')),
    due_at timestamptz not null default clock_timestamp(),
    run bigint, -- under way
    page int not null default 1,
    after text, -- the object behind which the page begins
    done_until bigint, -- events: all up to this second of Stripe's time are known
    has_turn boolean not null default false, -- under the budget of all calls: at due_at
    attempts int not null default 0 -- at this page
);

-- missed: events that had not been delivered; subscriptions that were different.
create table billing.reconcile_run (
    run bigint generated always as identity primary key,
    kind text not null,
    began_at timestamptz not null default clock_timestamp(),
    listed_at timestamptz, -- all pages are read
    ended_at timestamptz,
    since bigint, -- seconds of Stripe's time
    until bigint,
    fresh_since bigint, -- events: what is older was compared by an earlier run, too
    pages int not null default 0,
    listed bigint not null default 0,
    missed bigint not null default 0,
    fresh bigint not null default 0,
    delivered bigint not null default 0, -- of the fresh ones
    error text
);
create index reconcile_run_began on billing.reconcile_run (began_at);

-- The subscriptions that Stripe has named in the run under way.
create table billing.reconcile_listed (
    object_id text primary key
);

create table billing.drift (
    number bigint generated always as identity primary key,
    run bigint not null,
    at timestamptz not null default clock_timestamp(),
    class text not null check (class in ('missing_here', 'missing_there', 'status', 'price', 'period', 'cancellation', 'details')),
    kind text not null,
    object_id text not null,
    tenant_id uuid,
    before jsonb, -- what was known here
    after jsonb -- what Stripe said
);
create index drift_of_run on billing.drift (run, class);
create index drift_at on billing.drift (at);

-- What is amiss, as look_for_faults sees it, until it is no more: an alert is raised once for each. Also billing-deliveries, which
-- the next event that is delivered ends.
create table billing.fault (
    cause text primary key,
    tenant_id uuid,
    first_at timestamptz not null default clock_timestamp(),
    is_told boolean not null default false
);

-- Objects whose state is what Stripe answered when asked, in this second of its time; null, or another: what an event told.
alter table billing.object add column answered bigint;
-- Events that were found in Stripe's list, not having been delivered until then.
alter table billing.event add column is_found boolean not null default false;
create index event_found on billing.event (object_id) where is_found;

grant select, insert, update, delete on billing.reconcile, billing.reconcile_run, billing.reconcile_listed, billing.drift,
    billing.fault to tenantry_billing;
grant usage on all sequences in schema billing to tenantry_billing;

-- What is nobody's though its tenant is known: a net below lock_arrival and lock_customer. Returns how many tenants.
create function billing.adopt_the_lost() returns int
language plpgsql
as $$
declare
    v record;
    v_count int := 0;
begin
    perform learn_customer(o.customer_id, o.tenant_id, coalesce((o.body ->> 'created')::bigint, o.seen))
    from object o
    where o.claimed = o.tenant_id
      and o.customer_id is not null
      and not exists (select from customer c where c.customer_id = o.customer_id);
    for v in
        select distinct owner_of(o.claimed, o.customer_id) as tenant_id, o.customer_id
        from object o
        where o.tenant_id is null
          and (o.claimed is not null or o.customer_id is not null)
    loop
        if v.tenant_id is not null then
            perform lock_tenant(v.tenant_id);
            perform adopt(v.tenant_id, v.customer_id);
            perform settle(v.tenant_id, jsonb_build_object('id', null));
            v_count := v_count + 1;
        end if;
    end loop;
    return v_count;
end
$$;

-- The next page to be asked for, if one is due and there is room for a call: p_lease_ms long nobody else gets it.
create function billing.reconcile_next(
    p_events_ms bigint, p_subscriptions_ms bigint, p_lease_ms bigint, p_per_second float8,
    out kind text, out run bigint, out page int, out after text, out since bigint, out attempts int
) returns setof record
language plpgsql
as $$
declare
    v reconcile;
    v_wait bigint;
begin
    insert into reconcile (kind) select k from unnest(array['events', 'subscriptions']) k where exists (select from settings)
    on conflict do nothing;
    for v in select * from reconcile r where r.due_at <= clock_timestamp() order by r.kind for update skip locked loop
        if v.run is null then
            v := reconcile_begin(v);
        end if;
        if reconcile_has_listed(v, case v.kind when 'events' then p_events_ms else p_subscriptions_ms end) then
            continue;
        end if;
        if not v.has_turn then
            select t.wait_ms into v_wait from catalog.take_token('stripe:calls', p_per_second / 2, p_per_second / 2) t;
            if v_wait > 50 then
                update reconcile r
                set has_turn = true, due_at = clock_timestamp() + v_wait * interval '1 ms'
                where r.kind = v.kind;
                continue;
            end if;
        end if;
        update reconcile r
        set has_turn = false, due_at = clock_timestamp() + p_lease_ms * interval '1 ms', attempts = r.attempts + 1
        where r.kind = v.kind
        returning r.kind, r.run, r.page, r.after, r.attempts into kind, run, page, after, attempts;
        select x.since into since from reconcile_run x where x.run = v.run;
        return next;
    end loop;
end
$$;

-- Events: from an hour before where the last run ended, for Stripe's list shows some of them late; at first, from when billing
-- began to work.
create function billing.reconcile_begin(v billing.reconcile) returns billing.reconcile
language plpgsql
as $$
declare
    v_since bigint;
begin
    if v.kind = 'events' then
        v_since := coalesce(v.done_until - 3600, (select floor(extract(epoch from s.since))::bigint from settings s));
    end if;
    delete from reconcile_run where began_at < clock_timestamp() - interval '90 days';
    delete from drift where at < clock_timestamp() - interval '90 days';
    delete from reconcile_listed where v.kind = 'subscriptions';
    insert into reconcile_run (kind, since, fresh_since) values (v.kind, v_since, coalesce(v.done_until, v_since - 1))
    returning run into v.run;
    update reconcile r
    set run = v.run, page = 1, after = null, attempts = 0
    where r.kind = v.kind
    returning r.* into v;
    return v;
end
$$;

-- Whether all pages are read. Then what was different is being asked for once more, one by one; when that is done, the run is.
create function billing.reconcile_has_listed(v billing.reconcile, p_interval_ms bigint) returns boolean
language plpgsql
as $$
begin
    if not exists (select from reconcile_run r where r.run = v.run and r.listed_at is not null) then
        return false;
    end if;
    if exists (select from wanted_object w where w.why = 'reconcile') then
        update reconcile r set due_at = clock_timestamp() + interval '1 second' where r.kind = v.kind;
    else
        perform tell_drift(v.run);
        perform reconcile_end(v.kind, p_interval_ms);
    end if;
    return true;
end
$$;

create function billing.reconcile_end(p_kind text, p_interval_ms bigint) returns void
language plpgsql
as $$
begin
    update reconcile_run x
    set ended_at = clock_timestamp(), listed_at = coalesce(x.listed_at, clock_timestamp()), error = null
    from reconcile r
    where r.kind = p_kind
      and x.run = r.run;
    update reconcile r
    set run = null, after = null, page = 1, attempts = 0,
        due_at = greatest(clock_timestamp(), x.began_at + p_interval_ms * interval '1 ms'),
        done_until = case when p_kind = 'events' then greatest(x.until, r.done_until) end
    from reconcile_run x
    where r.kind = p_kind
      and x.run = r.run;
    perform catalog.resolve_alerts('billing-key', '{}');
end
$$;

-- The page of a run, locked, if it is still the one to be read; the first answer says how far a run goes. p_until: the second of
-- Stripe's time up to which this answer is complete.
create function billing.reconcile_page(p_kind text, p_run bigint, p_page int, p_until bigint, p_count int)
returns billing.reconcile_run
language plpgsql
as $$
declare
    v reconcile_run;
begin
    perform from reconcile r where r.kind = p_kind and r.run = p_run and r.page = p_page for update;
    if found then
        update reconcile_run x
        set until = coalesce(x.until, p_until), pages = x.pages + 1, listed = x.listed + p_count, error = null
        where x.run = p_run
        returning x.* into v;
    end if;
    return v;
end
$$;

create function billing.reconcile_turn_page(p_kind text, p_after text) returns void
language plpgsql
as $$
begin
    update reconcile r
    set page = r.page + 1, after = p_after, attempts = 0, due_at = clock_timestamp()
    where r.kind = p_kind;
end
$$;

-- p_class: limited (Stripe said "too many": nobody calls for as long), refused (the key, or its rights), or busy.
create function billing.reconcile_failed(p_kind text, p_run bigint, p_page int, p_error text, p_delay_ms bigint, p_class text)
returns void
language plpgsql
as $$
begin
    update reconcile r
    set due_at = clock_timestamp() + p_delay_ms * interval '1 ms'
    where r.kind = p_kind
      and r.run = p_run
      and r.page = p_page;
    update reconcile_run set error = p_error where run = p_run;
    if p_class = 'limited' then
        perform catalog.block_budget('stripe:calls', p_delay_ms);
    elsif p_class = 'refused' then
        perform catalog.raise_alert('billing-key', null, 'Stripe refuses the key', p_error || ': see STRIPE_SECRET_KEY');
    end if;
end
$$;

-- Applies those of these events, each as stripe_event_read returns it, that nobody has delivered, by the function that applies
-- what is delivered. One that is refused is set aside: it must not hold up the others. Returns how many they were.
create function billing.take_missing(p_events jsonb) returns int
language plpgsql
as $$
declare
    v_event jsonb;
    v_count int := 0;
begin
    for v_event in select value from jsonb_array_elements(p_events) loop
        if exists (select from event where event_id = v_event ->> 'id') then
            continue;
        end if;
        begin
            perform apply_event(v_event, jsonb_build_object('id', v_event -> 'id'));
        exception
            when data_exception or integrity_constraint_violation or raise_exception then
                perform log_event(v_event, null, 'quarantined', 'it was refused: ' || sqlerrm, v_event);
                perform catalog.raise_alert('billing-quarantine', null, 'events of Stripe''s were set aside',
                    'see: tenantry billing events --outcome quarantined');
        end;
        update event set is_found = true where event_id = v_event ->> 'id';
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- A page of Stripe's events, the newest first. p_date: Stripe's clock; what is younger than p_patience seconds may still be on its
-- way, and is left to the next run. p_after: the last one's id; null: there are no more. Returns how many had been missed.
create function billing.reconcile_events(
    p_run bigint, p_page int, p_events jsonb, p_after text, p_date bigint, p_patience bigint, p_interval_ms bigint
) returns int
language plpgsql
as $$
declare
    v reconcile_run := reconcile_page('events', p_run, p_page, p_date - p_patience, jsonb_array_length(p_events));
    v_events jsonb;
    v_missed int;
    c_kept constant bigint := 30 * 86400;
begin
    if v.run is null then
        return 0;
    end if;
    select coalesce(jsonb_agg(value order by (value ->> 'created')::bigint, value ->> 'id'), '[]') into v_events
    from jsonb_array_elements(p_events)
    where (value ->> 'created')::bigint <= v.until;
    update reconcile_run x
    set fresh = x.fresh + f.fresh, delivered = x.delivered + f.delivered
    from (select count(*) as fresh, count(i.event_id) as delivered
          from jsonb_array_elements(v_events) e
          left join inbox i on i.source = '/stripe' and i.event_id = e ->> 'id'
          where (e ->> 'created')::bigint > v.fresh_since) f
    where x.run = p_run;
    v_missed := take_missing(v_events);
    update reconcile_run x set missed = x.missed + v_missed where x.run = p_run returning * into v;
    if v.since < p_date - c_kept then -- older than Stripe keeps events: only the subscriptions themselves tell
        update reconcile r set due_at = clock_timestamp() where r.kind = 'subscriptions' and r.run is null;
    end if;
    if p_after is not null then
        perform reconcile_turn_page('events', p_after);
        return v_missed;
    end if;
    if v.fresh > 0 and v.delivered = 0 then
        insert into fault (cause, is_told) values ('billing-deliveries', true) on conflict do nothing;
        perform catalog.raise_alert('billing-deliveries', null, 'Stripe''s webhooks do not arrive',
            format('Stripe has %s new events, and none of them was delivered: the endpoint at Stripe is disabled or points elsewhere, '
                   'or STRIPE_WEBHOOK_SECRET is not its secret. What they say is asked for meanwhile', v.fresh));
    end if;
    perform adopt_the_lost();
    perform look_for_faults(v.until);
    perform reconcile_end('events', p_interval_ms);
    return v_missed;
end
$$;

-- In which ways a subscription is another at Stripe than here. Only what both tell is compared: programs of two releases may keep
-- different facts. Whose history has ended and is nobody's is none of ours.
create function billing.drift_classes(p_old billing.object, p_new jsonb) returns text[]
language plpgsql stable
as $$
declare
    f jsonb := p_old.facts;
    n jsonb := p_new -> 'facts';
    v text[] := '{}';
    v_class text;
    v_names text[];
begin
    if p_old.object_id is null then
        if (p_new ->> 'is_terminal')::boolean and owner_of((p_new ->> 'tenant_id')::uuid, p_new ->> 'customer') is null then
            return '{}';
        end if;
        return '{missing_here}';
    end if;
    if p_old.is_deleted and not (p_new ->> 'is_deleted')::boolean and not (p_new ->> 'is_terminal')::boolean then
        v := v || 'status'::text;
    end if;
    for v_class, v_names in
        values ('status', array['status']),
               ('period', array['period_start', 'period_end', 'trial_end']),
               ('cancellation', array['cancel_at', 'canceled_at', 'ended_at']),
               ('details', array['schedule', 'latest_invoice', 'pending_update_until', 'collection_paused'])
    loop
        if exists (select from unnest(v_names) name where f ? name and n ? name and f -> name <> n -> name)
            and not v @> array[v_class] then
            v := v || v_class;
        end if;
    end loop;
    if (select jsonb_agg(jsonb_build_array(p -> 'price', p -> 'quantity')) from jsonb_array_elements(f -> 'prices') p)
        is distinct from (select jsonb_agg(jsonb_build_array(p -> 'price', p -> 'quantity')) from jsonb_array_elements(n -> 'prices') p) then
        v := v || 'price'::text;
    end if;
    return v;
end
$$;

-- What is told of an object in the record of a drift.
create function billing.drift_facts(p_facts jsonb) returns jsonb
language sql immutable
as $$
    select jsonb_strip_nulls(jsonb_build_object('status', p_facts -> 'status', 'period_start', p_facts -> 'period_start',
        'period_end', p_facts -> 'period_end', 'trial_end', p_facts -> 'trial_end', 'cancel_at', p_facts -> 'cancel_at',
        'ended_at', p_facts -> 'ended_at', 'schedule', p_facts -> 'schedule',
        'prices', (select jsonb_agg(p -> 'price') from jsonb_array_elements(p_facts -> 'prices') p)))
$$;

create function billing.look_again(p_kind text, p_object_id text, p_patience_ms bigint) returns void
language plpgsql
as $$
begin
    insert into wanted_object (kind, object_id, why, due_at)
    values (p_kind, p_object_id, 'reconcile', clock_timestamp() + p_patience_ms * interval '1 ms')
    on conflict do nothing; -- it is being asked for
end
$$;

-- A page of Stripe's subscriptions. What is different is not drift yet: its event may be on its way. It is asked for once more
-- after p_patience_ms; see answered. Returns how many were different.
create function billing.reconcile_subscriptions(
    p_run bigint, p_page int, p_objects jsonb, p_after text, p_date bigint, p_patience_ms bigint
) returns int
language plpgsql
as $$
declare
    v reconcile_run := reconcile_page('subscriptions', p_run, p_page, p_date, jsonb_array_length(p_objects));
    v_object jsonb;
    v_old object;
    v_missed int := 0;
begin
    if v.run is null then
        return 0;
    end if;
    for v_object in select value from jsonb_array_elements(p_objects) loop
        insert into reconcile_listed (object_id) values (v_object ->> 'id') on conflict do nothing;
        select * into v_old from object where kind = 'subscription' and object_id = v_object ->> 'id';
        if drift_classes(v_old, v_object) <> '{}' then
            perform look_again('subscription', v_object ->> 'id', p_patience_ms);
            v_missed := v_missed + 1;
        end if;
    end loop;
    if p_after is not null then
        perform reconcile_turn_page('subscriptions', p_after);
    else
        for v_old in
            select *
            from object o
            where o.kind = 'subscription'
              and not o.is_deleted
              and not o.is_terminal
              and coalesce((o.body ->> 'created')::bigint, o.seen) < v.until
              and not exists (select from reconcile_listed l where l.object_id = o.object_id)
        loop
            perform look_again('subscription', v_old.object_id, p_patience_ms);
            v_missed := v_missed + 1;
        end loop;
        update reconcile_run x set listed_at = clock_timestamp() where x.run = p_run;
        update reconcile r set due_at = clock_timestamp() + p_patience_ms * interval '1 ms' where r.kind = 'subscriptions';
    end if;
    update reconcile_run x set missed = x.missed + v_missed where x.run = p_run;
    return v_missed;
end
$$;

-- Stripe's answer about an object: see fetched. If it was asked for because it was different at the last comparison and still is,
-- that is drift: recorded, and mended. Returns its classes.
create function billing.answered(p_kind text, p_object_id text, p_version bigint, p_object jsonb, p_seen bigint) returns text[]
language plpgsql
as $$
declare
    v_wanted wanted_object;
    v_old object;
    v_now object;
    v_classes text[] := '{}';
begin
    select * into v_wanted from wanted_object where kind = p_kind and object_id = p_object_id;
    select * into v_old from object where kind = p_kind and object_id = p_object_id;
    perform fetched(p_kind, p_object_id, p_version, p_object, p_seen);
    select * into v_now from object where kind = p_kind and object_id = p_object_id;
    if p_object is not null and v_now.seen = p_seen and v_now.digest = p_object ->> 'digest' then
        update object set answered = p_seen where kind = p_kind and object_id = p_object_id;
    end if;
    if v_wanted.why is distinct from 'reconcile' or p_kind <> 'subscription' then
        return v_classes;
    end if;
    v_classes := case when p_object is not null then drift_classes(v_old, p_object)
                      when v_now.object_id is not null then '{missing_there}' else '{}' end;
    if v_classes = '{}' then
        return v_classes;
    end if;
    insert into drift (run, class, kind, object_id, tenant_id, before, after)
    select coalesce((select r.run from reconcile r where r.kind = 'subscriptions'), 0), class, p_kind, p_object_id, v_now.tenant_id,
        drift_facts(v_old.facts), drift_facts(p_object -> 'facts')
    from unnest(v_classes) class;
    if p_object is not null then
        perform insist(v_now, p_object, p_seen);
    end if;
    return v_classes;
end
$$;

-- What is stored claims to be of a later time than Stripe's own clock shows, or to be the end of what goes on: no event of
-- Stripe's has told that. Its answer is put in that place.
create function billing.insist(p_now billing.object, p_object jsonb, p_seen bigint) returns void
language plpgsql
as $$
declare
    c_under_way constant bigint := 300; -- seconds: an event that has come since Stripe answered
    v_owner uuid := owner_of((p_object ->> 'tenant_id')::uuid, p_object ->> 'customer');
begin
    if drift_classes(p_now, p_object) = '{}' or p_now.seen between p_seen + 1 and p_seen + c_under_way then
        return;
    end if;
    perform put_object(p_object, p_seen, false, v_owner);
    update object set answered = p_seen where kind = p_object ->> 'kind' and object_id = p_object ->> 'id';
    if v_owner is not null then
        perform settle(v_owner, jsonb_build_object('id', 'fetch:' || (p_object ->> 'id')));
    end if;
end
$$;

-- One alert for all that a run has found, until a run finds nothing.
create function billing.tell_drift(p_run bigint) returns void
language plpgsql
as $$
declare
    v_counts text := (
        select string_agg(format('%s %s', c.count, replace(c.class, '_', ' ')), ', ' order by c.class)
        from (select class, count(*) from drift where run = p_run group by class) c);
begin
    if v_counts is null then
        perform catalog.resolve_alerts('billing-drift', '{}');
    else
        perform catalog.raise_alert('billing-drift', null, 'subscriptions were different at Stripe',
            v_counts || ': see tenantry billing reconcile. What Stripe says is applied; what is missing there is left as it was here');
    end if;
end
$$;

-- What is amiss at Stripe, as far as it is known here: payments that are nobody's, and payments of tenants that are no more. (Who pays
-- twice is told at once, by look_after.) Nothing younger than p_until: what explains it may be on its way.
create function billing.current_faults(p_until bigint)
returns table (cause text, tenant_id uuid, title text, detail text)
language sql stable
as $$
    with live as (
        select o.*
        from object o
        where o.kind = 'subscription'
          and not o.is_deleted
          and not o.is_terminal
          and o.facts ->> 'status' <> 'incomplete'
          and o.seen <= p_until
    )
    select 'billing-orphan:' || l.object_id, null::uuid, 'a subscription is nobody''s',
        format('%s of customer %s is %s, and names no tenant that is known: set metadata.tenant_id on it at Stripe, or cancel it',
               l.object_id, l.customer_id, l.facts ->> 'status')
    from live l
    where l.tenant_id is null
    union all
    select 'billing-orphan:' || o.object_id, null::uuid, 'a payment is nobody''s',
        format('invoice %s of customer %s is paid (%s %s), and names no tenant that is known: set metadata.tenant_id on the customer at '
               'Stripe, or refund it', o.object_id, o.customer_id, (o.facts ->> 'amount_paid')::numeric / 100, o.facts ->> 'currency')
    from object o
    where o.kind = 'invoice'
      and o.tenant_id is null
      and o.facts ->> 'status' = 'paid'
      and (o.facts ->> 'amount_paid')::bigint > 0
      and o.seen <= p_until
    union all
    select 'billing-alive:' || l.object_id, l.tenant_id, 'a tenant that is no more still pays',
        format('its tenant is %s, and %s is %s at Stripe: cancel it there', t.lifecycle, l.object_id, l.facts ->> 'status')
    from live l
    join tenant t on t.tenant_id = l.tenant_id
    where t.lifecycle <> 'live'
$$;

-- Raises one alert for each, and ends it when it is over. An alert that somebody has resolved by hand is not raised again for the
-- same. What has to do with a tenant's end is told when it is seen a second time: it may just be being ended.
create function billing.look_for_faults(p_until bigint) returns void
language plpgsql
as $$
declare
    v record;
    c_most constant int := 50; -- alerts at once
begin
    delete from fault
    where cause <> 'billing-deliveries'
      and cause not in (select c.cause from current_faults(9223372036854775807) c);
    perform catalog.resolve_alerts('billing-' || k || ':%', array(select cause from fault))
    from unnest(array['orphan', 'alive']) k;
    for v in
        select c.*, f.cause is not null as was_seen
        from current_faults(p_until) c
        left join fault f on f.cause = c.cause
        where f.is_told is distinct from true
        order by c.cause
        limit c_most
    loop
        insert into fault as f (cause, tenant_id, is_told)
        values (v.cause, v.tenant_id, v.cause not like 'billing-alive:%' or v.was_seen)
        on conflict (cause) do update set is_told = excluded.is_told;
        if v.cause not like 'billing-alive:%' or v.was_seen then
            perform catalog.raise_alert(v.cause, v.tenant_id, v.title, v.detail);
        end if;
    end loop;
end
$$;

-- By an operator who does not want to wait.
create function catalog.reconcile_billing(p_by text) returns bigint
language plpgsql security definer
set search_path = billing, durable, pg_temp
as $$
declare
    v_begun bigint;
begin
    update reconcile set due_at = clock_timestamp() where run is null;
    get diagnostics v_begun = row_count;
    if v_begun > 0 then
        perform catalog.record_deed('billing-reconcile', 'billing_reconciled', v_begun, 'billing-reconcile', null, p_by);
    end if;
    return v_begun;
end
$$;
revoke execute on function catalog.reconcile_billing from public;
grant execute on function catalog.reconcile_billing to tenantry_gateway;

create view gateway.billing_reconcile as
select jsonb_build_object(
    'next', jsonb_build_object(
        'events', (select catalog.json_time(due_at) from billing.reconcile where kind = 'events'),
        'subscriptions', (select catalog.json_time(due_at) from billing.reconcile where kind = 'subscriptions')),
    'runs', coalesce((
        select jsonb_agg(jsonb_build_object('run', r.run, 'kind', r.kind, 'began_at', catalog.json_time(r.began_at),
            'ended_at', catalog.json_time(r.ended_at), 'until', catalog.json_time(to_timestamp(r.until)), 'pages', r.pages,
            'listed', r.listed, 'missed', r.missed,
            'drift', (select count(*) from billing.drift d where d.run = r.run), 'error', r.error) order by r.run desc)
        from (select * from billing.reconcile_run order by run desc limit 20) r), '[]'),
    'drift', coalesce((
        select jsonb_agg(jsonb_build_object('number', d.number, 'run', d.run, 'at', catalog.json_time(d.at), 'class', d.class,
            'object_id', d.object_id, 'tenant_id', d.tenant_id, 'before', d.before, 'after', d.after) order by d.number desc)
        from (select * from billing.drift order by number desc limit 100) d), '[]')) as item;
grant select on gateway.billing_reconcile to tenantry_gateway;

-- Forecast.

-- Why a tenant's subscription is what it is: which subscription and invoice, and the last event about them.
create function billing.because(t billing.tenant, s jsonb) returns jsonb
language plpgsql stable
as $$
declare
    v_subscription text := coalesce(s ->> 'subscription_id', (ended_subscription(t.tenant_id)).object_id);
    v_invoice text;
    v_event event;
begin
    select o.object_id into v_invoice
    from object o
    where o.tenant_id = t.tenant_id
      and o.kind = 'invoice'
      and s ->> 'reason' = 'payment_failed'
      and o.facts ->> 'status' in ('open', 'uncollectible')
      and o.facts ->> 'subscription' = v_subscription
      and (o.first_failure is not null or (o.facts ->> 'attempt_count')::int > 0)
    order by (o.facts ->> 'created')::bigint, o.object_id
    limit 1;
    select * into v_event
    from event e
    where e.object_id in (v_subscription, v_invoice)
      and e.outcome in ('applied', 'tie', 'thin')
    order by e.created desc nulls last, e.number desc
    limit 1;
    return jsonb_build_object('status', s -> 'status', 'reason', s -> 'reason', 'access', s -> 'access', 'plan', s -> 'plan',
        'interval', s -> 'interval', 'access_until', s -> 'access_until', 'subscription_id', v_subscription, 'invoice_id', v_invoice,
        'event', case when v_event.event_id is not null then
            jsonb_build_object('event_id', v_event.event_id, 'type', v_event.type,
                'created', catalog.json_time(to_timestamp(v_event.created))) end);
end
$$;

create function billing.forecast_row(p_at timestamptz, p_change text, s jsonb) returns jsonb
language sql stable
as $$
    select jsonb_build_object('at', catalog.json_time(p_at), 'change', p_change, 'status', s -> 'status', 'reason', s -> 'reason',
        'access', s -> 'access', 'plan', s -> 'plan')
$$;

-- What time alone changes here, up to an instant, by the very function that will say so then; and the archive behind it.
create function billing.forecast_of_time(t billing.tenant, p_now timestamptz, p_until timestamptz) returns setof jsonb
language plpgsql stable
as $$
declare
    s jsonb := subscription_of(t, p_now);
    v jsonb;
    v_at timestamptz;
    c_names constant text[] := array['status', 'reason', 'access', 'plan'];
begin
    for i in 1 .. 100 loop
        v_at := (s ->> 'next_at')::timestamptz;
        exit when v_at is null or v_at > p_until;
        v := s;
        s := subscription_of(t, v_at + interval '1 ms'); -- v_at is told in whole milliseconds
        if exists (select from unnest(c_names) name where (s ->> name) is distinct from (v ->> name)) then
            return next forecast_row(v_at, 'status', s);
        end if;
    end loop;
    v_at := (s ->> 'archive_at')::timestamptz;
    if v_at > p_now and v_at <= p_until then
        return next forecast_row(v_at, 'archive', s || '{"status": "archived"}');
    end if;
end
$$;

-- What Stripe will do if nothing is changed there and every payment succeeds: renewals, a change of plan that is waiting, and a
-- cancellation at p_end, with what follows from that here.
create function billing.forecast_of_stripe(
    t billing.tenant, p_live billing.object, p_now timestamptz, p_until timestamptz, p_end timestamptz
) returns setof jsonb
language plpgsql stable
as $$
declare
    s jsonb := subscription_of(t, p_now);
    f jsonb := p_live.facts;
    v_step interval := '1 ' || coalesce(f #>> '{prices,0,interval}', 'month');
    v_first timestamptz := to_timestamp((f ->> 'period_end')::bigint);
    v_change timestamptz := (s #>> '{pending,at}')::timestamptz;
    v_changed jsonb := s || coalesce(jsonb_build_object('plan', s #> '{pending,plan}'), '{}');
    v_at timestamptz := v_first;
    v_over timestamptz;
    v_renewed jsonb;
begin
    if v_change > p_now and v_change <= least(p_until, p_end) then
        return next forecast_row(v_change, 'plan', v_changed);
    end if;
    for i in 1 .. 60 loop
        exit when v_at is null or v_at > p_until or v_at >= p_end or f ->> 'status' not in ('active', 'trialing');
        v_renewed := case when v_change <= v_at then v_changed else s end;
        if v_at > p_now then
            return next forecast_row(v_at, 'renewal',
                case when v_renewed ->> 'reason' = 'override' then v_renewed else v_renewed || '{"status": "active"}' end);
        end if;
        v_at := v_first + i * v_step;
    end loop;
    if p_end > p_now and p_end <= p_until then
        v_over := greatest(p_end, case when not t.existing then
                t.ready_at + (select trial_days from settings) * interval '1 day' end,
            case when t.override is not null then coalesce((t.override ->> 'until')::timestamptz, 'infinity') end);
        v_changed := s || jsonb_build_object('status', 'cancelled', 'reason', null, 'access',
            case when v_over > p_end then s -> 'access' else '"none"' end);
        return next forecast_row(p_end, 'status', v_changed);
        if v_over > p_end and v_over <= p_until then
            return next forecast_row(v_over, 'status', v_changed || '{"access": "none"}');
        end if;
        v_over := v_over + kept_days() * interval '1 day';
        if v_over <= p_until then
            return next forecast_row(v_over, 'archive', v_changed || '{"status": "archived", "access": "none"}');
        end if;
    end if;
end
$$;

-- What a tenant's subscription is, why, and what becomes of it within so many days if nothing changes. Null: billing does not know
-- the tenant.
create function catalog.billing_forecast(p_tenant_id uuid, p_days int) returns jsonb
language plpgsql stable security definer
set search_path = billing, durable, pg_temp
as $$
declare
    t tenant;
    v_now timestamptz := catalog.business_now();
    v_until timestamptz := v_now + p_days * interval '1 day';
    v_live object := live_subscription(p_tenant_id);
    v_end timestamptz := to_timestamp((v_live.facts ->> 'cancel_at')::bigint);
    v_rows jsonb := '[]';
begin
    select * into t from tenant where tenant_id = p_tenant_id;
    if not found then
        return null;
    end if;
    if t.lifecycle = 'live' then
        select coalesce(jsonb_agg(r order by r ->> 'at', r ->> 'change'), '[]') into v_rows
        from (select forecast_of_time(t, v_now, least(v_until, v_end)) as r
              union all
              select forecast_of_stripe(t, v_live, v_now, v_until, v_end)
              where v_live.object_id is not null) x;
    end if;
    return jsonb_build_object('tenant_id', p_tenant_id, 'at', catalog.json_time(v_now), 'days', p_days,
        'now', because(t, subscription_of(t, v_now)), 'changes', v_rows);
end
$$;
revoke execute on function catalog.billing_forecast from public;
grant execute on function catalog.billing_forecast to tenantry_gateway;

-- Verify: all of billing once more, in a schema of its own, which is filled from the raw topic, compared and rolled back with its
-- transaction. Nothing of billing is locked by that, and nobody else sees it.

-- The same tables, empty, and the same functions, which find them by the search path. What is not Stripe's is copied: tenants, plans.
-- What would have effects elsewhere has none.
create function billing.make_replica(p_schema text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp -- so that definitions name the schema of every type
set check_function_bodies = off
as $$
declare
    v record;
    v_stub text;
begin
    execute format('create schema %I', p_schema);
    for v in select tablename from pg_tables where schemaname = 'billing' loop
        execute format('create table %I.%I (like billing.%2$I including all)', p_schema, v.tablename);
    end loop;
    for v in
        select pg_get_functiondef(p.oid) as body
        from pg_proc p
        where p.pronamespace = 'billing'::regnamespace
          and p.prokind = 'f'
    loop
        execute regexp_replace(regexp_replace(regexp_replace(v.body,
            '\mbilling\.(?!stripe\.)', p_schema || '.', 'g'),
            'search_path TO ''billing''', 'search_path TO ''' || p_schema || '''', 'g'),
            '\mcatalog\.(raise_alert|resolve_alerts?|record_change|record_deed)\M', p_schema || '.\1', 'g');
    end loop;
    foreach v_stub in array array['settle(uuid, jsonb)', 'raise_alert(text, uuid, text, text)', 'resolve_alert(text)',
        'resolve_alerts(text, text[])', 'record_change(uuid, text, jsonb, text, text)',
        'record_deed(text, text, bigint, text, text, text)', 'set_timer(text, text, timestamptz)', 'drop_timer(text, text)'] loop
        execute format('drop function if exists %I.%s', p_schema, v_stub);
        execute format('create function %I.%s returns void language plpgsql as ''begin end''', p_schema, v_stub);
    end loop;
    foreach v_stub in array array['settings', 'plan', 'price', 'tenant'] loop
        execute format('insert into %I.%I select * from billing.%2$I', p_schema, v_stub);
    end loop;
end
$$;

-- What is different in it, object by object, then tenant by tenant. verdict:
--   different
--   asked   its state here is Stripe's answer, or it would be asked for: two states of one second, a comparison
--   listed  events about it were found in Stripe's list, and are not in the topic
--   lost    there is nothing of it in the topic, whose beginning was deleted (p_is_whole: it was not)
create function billing.compare_replica(
    p_schema text, p_is_whole boolean,
    out kind text, out id text, out tenant_id uuid, out verdict text, out here jsonb, out rebuilt jsonb
) returns setof record
language plpgsql
as $$
declare
    v_now timestamptz := catalog.business_now();
    v_path text := current_setting('search_path');
    v_here jsonb;
    v_rebuilt jsonb;
begin
    perform set_config('search_path', 'billing, durable', true); -- by which the functions find their tables
    select jsonb_object_agg(t.tenant_id, billing.subscription_of(t, v_now) - 'next_at') into v_here from billing.tenant t;
    perform set_config('search_path', p_schema || ', durable', true);
    execute format('select jsonb_object_agg(t.tenant_id, %1$I.subscription_of(t, $1) - ''next_at'') from %1$I.tenant t', p_schema)
    into v_rebuilt
    using v_now;
    perform set_config('search_path', v_path, true);
    return query execute format($q$
        with o as (
            select coalesce(a.kind, b.kind) as kind, coalesce(a.object_id, b.object_id) as id,
                coalesce(a.tenant_id, b.tenant_id) as tenant_id,
                case when a.answered = a.seen
                       or (a.object_id is not null
                           and not exists (select from billing.event e where e.object_id = a.object_id and e.created = a.seen))
                       or exists (select from %1$I.wanted_object w where w.kind = b.kind and w.object_id = b.object_id) then 'asked'
                     when exists (select from billing.event e
                                  where e.object_id = coalesce(a.object_id, b.object_id)
                                    and e.is_found
                                    and not exists (select from %1$I.event x where x.event_id = e.event_id)) then 'listed'
                     when b.object_id is null and not $1 then 'lost'
                     else 'different' end as verdict,
                case when a.object_id is not null then a.facts || jsonb_build_object('is_deleted', a.is_deleted,
                    'tenant_id', a.tenant_id, 'first_failure', a.first_failure) end as here,
                case when b.object_id is not null then b.facts || jsonb_build_object('is_deleted', b.is_deleted,
                    'tenant_id', b.tenant_id, 'first_failure', b.first_failure) end as rebuilt
            from billing.object a
            full join %1$I.object b on b.kind = a.kind and b.object_id = a.object_id
        ), different as (
            select * from o where o.here is distinct from o.rebuilt
        )
        select d.kind, d.id, d.tenant_id, d.verdict, d.here, d.rebuilt
        from different d
        union all
        select 'tenant', t.key, t.key::uuid,
            case when exists (select from different d where d.tenant_id = t.key::uuid and d.verdict = 'different') then 'different'
                 else coalesce((select min(d.verdict) from different d where d.tenant_id = t.key::uuid), 'different') end,
            t.value, $3 -> t.key
        from jsonb_each($2) t
        where t.value is distinct from $3 -> t.key
        order by 1, 2
    $q$, p_schema) using p_is_whole, coalesce(v_here, '{}'), coalesce(v_rebuilt, '{}');
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
