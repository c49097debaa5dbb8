-- Billing: what Stripe has told, object by object, in whatever order it came; and what is known of each tenant. What follows
-- from that for a tenant is computed in 20261203000021_subscription.sql.
-- migrate:up
set local check_function_bodies = off;

select durable.add_service('billing');

-- As before; but "immutable" was more than to_char is, so that it was called anew each time and cost 25 us: now it becomes part of
-- whatever uses it.
create or replace function catalog.json_time(p_at timestamptz) returns text
language sql stable parallel safe
as $$
    select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

create table billing.settings (
    only_row boolean primary key default true check (only_row),
    since timestamptz not null, -- when billing began to work here: tenants from before that are exempt
    livemode boolean not null,
    trial_plan text,
    trial_days int not null,
    released_at timestamptz -- business time: whose access had ended by then may be suspended, however many they are
);

create table billing.plan (
    plan_id text primary key,
    place int not null,
    name text not null,
    modules jsonb not null,
    limits jsonb not null,
    is_offered boolean not null default true -- in the plans of the last process to start; others are kept for who has them
);
create table billing.price (
    lookup_key text primary key,
    plan_id text not null references billing.plan,
    period text not null check (period in ('month', 'year'))
);

-- ready_at: the first time, in business time; the trial begins then. existing: older than billing, has no trial.
create table billing.tenant (
    tenant_id uuid primary key,
    existing boolean not null,
    lifecycle text not null default 'live' check (lifecycle in ('live', 'archived', 'gone')),
    ready_at timestamptz,
    override jsonb, -- {plan, modules, limits, until, by, reason}
    subscription jsonb, -- as computed: see subscription_of
    access text not null default 'full' check (access in ('full', 'none')),
    access_until timestamptz, -- business time: when it ends unless something changes; null: not by itself
    suspended_at timestamptz, -- real time; null: it has access
    held boolean not null default false -- too many would have been suspended at once
);
create index tenant_ending on billing.tenant (access_until) where access = 'full' and access_until is not null;
create index tenant_suspended on billing.tenant (suspended_at) where suspended_at is not null;
create index tenant_with_access on billing.tenant (tenant_id) where access = 'full';

-- What is new about tenants elsewhere in the catalog, until billing has taken it: ready_at is when it was seen to be ready first.
create table billing.tenant_news (
    tenant_id uuid primary key,
    ready_at timestamptz,
    at timestamptz not null default clock_timestamp()
);

-- Whose a customer of Stripe's is. Of two tenants that claim one, the first in Stripe's time; nothing depends on what came first.
create table billing.customer (
    customer_id text primary key,
    tenant_id uuid not null,
    since bigint not null -- second of Stripe's time in which the first object was made that says so
);
create index customer_of_tenant on billing.customer (tenant_id);

-- The newest that is known of each of Stripe's objects.
create table billing.object (
    kind text not null,
    object_id text not null,
    customer_id text,
    claimed uuid, -- the tenant that the object names
    tenant_id uuid, -- whose it is: who it names, if there is one, else its customer's
    seen bigint not null, -- second of Stripe's time of what is stored here
    is_first boolean not null, -- which came with the object's creation
    is_deleted boolean not null,
    is_terminal boolean not null,
    rank int not null,
    digest text not null,
    facts jsonb not null,
    body jsonb not null,
    first_failure bigint, -- of an invoice: second of the first failed payment
    primary key (kind, object_id)
) with (fillfactor = 80);
create index object_of_tenant on billing.object (tenant_id, kind);
create index object_of_customer on billing.object (customer_id) where tenant_id is null;
create index object_claimed on billing.object (claimed) where tenant_id is null;

-- Objects to be asked for at Stripe, each once however many events want it: ties, and events that carry nothing.
create table billing.wanted_object (
    kind text not null,
    object_id text not null,
    path text, -- null: by kind and id
    why text not null,
    version bigint not null default 1, -- one more for each event that wants it
    attempts int not null default 0,
    due_at timestamptz not null default clock_timestamp(),
    has_turn boolean not null default false, -- under the budget of all calls: at due_at
    taken_until timestamptz, -- a process is asking
    error text,
    primary key (kind, object_id)
);
create index wanted_object_due on billing.wanted_object (due_at);

-- Each event once, with what became of it.
create table billing.event (
    event_id text primary key,
    number bigint generated always as identity,
    type text not null,
    created bigint, -- null: Stripe's newer events say it otherwise
    api_version text,
    kind text,
    object_id text,
    customer_id text,
    tenant_id uuid,
    outcome text not null check (outcome in ('applied', 'stale', 'tie', 'twin', 'thin', 'parked', 'quarantined')),
    reason text,
    at timestamptz not null default clock_timestamp(),
    kept jsonb -- of a parked or quarantined one, what is needed to drive it again
);
create unique index event_number on billing.event (number);
create index event_of_tenant on billing.event (tenant_id, number);
create index event_of_object on billing.event (object_id, number);
create index event_of_outcome on billing.event (outcome, number) where outcome in ('tie', 'thin', 'parked', 'quarantined');

grant select, insert, update, delete on all tables in schema billing to tenantry_billing;
grant usage on all sequences in schema billing to tenantry_billing;

-- What billing may know of a tenant.
create view provisioner.tenant_life as
select t.tenant_id, t.slug, t.company, t.email, t.admin_name, t.plan, t.created_at, t.state,
    case when t.state = 'deprovisioned' or t.lifecycle_wanted = 'gone' then 'gone'
         when t.state = 'archived' or t.lifecycle_wanted = 'archived' then 'archived'
         else 'live' end as lifecycle
from provisioner.tenant t;
grant usage on schema provisioner to tenantry_billing;
grant select on provisioner.tenant_life to tenantry_billing;

-- The provisioner's programs know nothing of billing, and need not: what they change is noted here, in their transaction.
create function billing.note_news() returns trigger
language plpgsql security definer
set search_path = billing, catalog, pg_temp
as $$
begin
    insert into tenant_news as n (tenant_id, ready_at)
    values (new.tenant_id, case when new.state = 'ready' then business_now() end)
    on conflict (tenant_id) do update
        set ready_at = coalesce(n.ready_at, excluded.ready_at), at = clock_timestamp();
    return null;
end
$$;
revoke execute on function billing.note_news from public;
create trigger billing_news_of_new after insert on provisioner.tenant for each row execute function billing.note_news();
create trigger billing_news after update of state, lifecycle_wanted on provisioner.tenant for each row
    when (old.state is distinct from new.state or old.lifecycle_wanted is distinct from new.lifecycle_wanted)
    execute function billing.note_news();
insert into billing.tenant_news (tenant_id) select tenant_id from provisioner.tenant;

-- Whose an object is.
create function billing.owner_of(p_claimed uuid, p_customer text) returns uuid
language plpgsql stable
as $$
declare
    v_tenant uuid;
begin
    if p_claimed is not null then
        select tenant_id into v_tenant from tenant where tenant_id = p_claimed;
    end if;
    if v_tenant is null and p_customer is not null then
        select tenant_id into v_tenant from customer where customer_id = p_customer;
    end if;
    return v_tenant;
end
$$;

-- A tenant's objects and parked events are its own from now on.
create function billing.adopt(p_tenant_id uuid, p_customer text) returns void
language plpgsql
as $$
begin
    update object
    set tenant_id = p_tenant_id
    where tenant_id is null
      and (claimed = p_tenant_id or customer_id = p_customer);
    update event
    set tenant_id = p_tenant_id, outcome = 'applied', reason = 'its tenant is known now', kept = null
    where outcome = 'parked'
      and tenant_id is null
      and object_id in (select object_id from object where tenant_id = p_tenant_id);
end
$$;

-- The object says whose its customer is. Returns whether that is news.
create function billing.learn_customer(p_customer text, p_tenant_id uuid, p_since bigint) returns boolean
language plpgsql
as $$
declare
    v customer;
begin
    select * into v from customer where customer_id = p_customer;
    if v.tenant_id = p_tenant_id and v.since <= p_since then
        return false;
    end if;
    insert into customer as c (customer_id, tenant_id, since)
    values (p_customer, p_tenant_id, p_since)
    on conflict (customer_id) do update
        set tenant_id = excluded.tenant_id, since = excluded.since
        where (c.since, c.tenant_id) > (excluded.since, excluded.tenant_id);
    if v.tenant_id <> p_tenant_id then
        perform catalog.raise_alert('billing-customer:' || p_customer, p_tenant_id, 'two tenants have one customer at Stripe',
            format('%s is named as the customer of %s and of %s: Stripe would take the one''s money for the other', p_customer,
                   v.tenant_id, p_tenant_id));
    end if;
    return found;
end
$$;

-- What an object's news is beside what is stored: apply, stale (older), twin (the same), or tie (of the same second, and not
-- the same: only Stripe knows which is later). A pure function, so that any order of the same news ends in the same state.
create function billing.compare(p_old billing.object, p_new jsonb, p_seen bigint, p_first boolean) returns text
language sql immutable
as $$
    select case
        when p_old.object_id is null then 'apply'
        when (p_new ->> 'is_deleted')::boolean and not p_old.is_deleted then 'apply'
        when p_old.digest = p_new ->> 'digest' and p_old.seen = p_seen then 'twin'
        when p_old.is_deleted or p_old.is_terminal then 'stale'
        when (p_new ->> 'rank')::int < p_old.rank then 'stale'
        when (p_new ->> 'rank')::int > p_old.rank then 'apply'
        when p_seen < p_old.seen then 'stale'
        when p_seen > p_old.seen then 'apply'
        when p_first then 'stale'
        when p_old.is_first then 'apply'
        else 'tie'
    end
$$;

create function billing.put_object(p_object jsonb, p_seen bigint, p_first boolean, p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    insert into object as o (kind, object_id, customer_id, claimed, tenant_id, seen, is_first, is_deleted, is_terminal, rank,
        digest, facts, body)
    values (p_object ->> 'kind', p_object ->> 'id', p_object ->> 'customer', (p_object ->> 'tenant_id')::uuid, p_tenant_id,
        p_seen, p_first, (p_object ->> 'is_deleted')::boolean, (p_object ->> 'is_terminal')::boolean,
        (p_object ->> 'rank')::int, p_object ->> 'digest', p_object -> 'facts', p_object -> 'body')
    on conflict (kind, object_id) do update
        set customer_id = coalesce(excluded.customer_id, o.customer_id), claimed = coalesce(excluded.claimed, o.claimed),
            tenant_id = excluded.tenant_id, seen = excluded.seen, is_first = excluded.is_first,
            is_deleted = excluded.is_deleted, is_terminal = excluded.is_terminal, rank = excluded.rank,
            digest = excluded.digest, facts = excluded.facts, body = excluded.body;
end
$$;

create function billing.want_object(p_kind text, p_object_id text, p_path text, p_why text) returns void
language plpgsql
as $$
begin
    insert into wanted_object as w (kind, object_id, path, why)
    values (p_kind, p_object_id, p_path, p_why)
    on conflict (kind, object_id) do update
        set version = w.version + 1, due_at = least(w.due_at, clock_timestamp()), why = excluded.why;
end
$$;

-- What is stored of an object, without its body, which is large and which nobody here looks at.
create function billing.known_object(p_kind text, p_object_id text) returns billing.object
language plpgsql
as $$
declare
    v object;
begin
    select kind, object_id, customer_id, claimed, tenant_id, seen, is_first, is_deleted, is_terminal, rank, digest, facts
    into v
    from object
    where kind = p_kind
      and object_id = p_object_id
    for update;
    return v;
end
$$;

-- Whoever finds a tenant or a customer unknown, and whoever makes it known, wait for each other: else the one would store what
-- the other, who looks for that, cannot see yet, and nobody would ever look again.
create function billing.lock_arrival(p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('billing tenant ' || p_tenant_id, 0));
end
$$;

create function billing.lock_customer(p_customer text) returns void
language plpgsql
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('billing customer ' || p_customer, 0));
end
$$;

-- Applies what is said of an object as of a second of Stripe's time, by an event or by an answer. Returns what compare says.
create function billing.apply_object(p_object jsonb, p_seen bigint, p_first boolean, out owner uuid, out outcome text)
language plpgsql
as $$
declare
    v_customer text := p_object ->> 'customer';
    v_claimed uuid := (p_object ->> 'tenant_id')::uuid;
    v_old object;
begin
    owner := owner_of(v_claimed, v_customer);
    if owner is null then
        perform lock_arrival(v_claimed);
        perform lock_customer(v_customer);
        owner := owner_of(v_claimed, v_customer);
    end if;
    perform lock_tenant(owner);
    v_old := known_object(p_object ->> 'kind', p_object ->> 'id');
    outcome := compare(v_old, p_object, p_seen, p_first);
    if outcome = 'apply' then
        perform put_object(p_object, p_seen, p_first, owner);
    elsif outcome = 'tie' then
        perform want_object(p_object ->> 'kind', p_object ->> 'id', null, 'tie');
    end if;
    if v_claimed = owner and v_customer is not null
        and (v_old.tenant_id, v_old.claimed, v_old.customer_id) is distinct from (owner, v_claimed, v_customer) then
        perform lock_customer(v_customer);
        if learn_customer(v_customer, owner, coalesce((p_object ->> 'created')::bigint, p_seen)) then
            perform adopt(owner, v_customer);
        end if;
    end if;
end
$$;

-- A failed payment is a fact that later news of the invoice do not tell any more: when the first one was.
create function billing.note_failure(p_event jsonb) returns void
language plpgsql
as $$
begin
    update object
    set first_failure = least(first_failure, (p_event ->> 'created')::bigint)
    where kind = 'invoice'
      and object_id = p_event #>> '{object,id}'
      and first_failure is distinct from least(first_failure, (p_event ->> 'created')::bigint);
end
$$;

create function billing.log_event(p_event jsonb, p_tenant_id uuid, p_outcome text, p_reason text, p_kept jsonb) returns void
language plpgsql
as $$
begin
    insert into event as e (event_id, type, created, api_version, kind, object_id, customer_id, tenant_id, outcome, reason, kept)
    values (p_event ->> 'id', p_event ->> 'type', (p_event ->> 'created')::bigint, p_event ->> 'api_version',
        p_event #>> '{object,kind}', p_event #>> '{object,id}', p_event #>> '{object,customer}', p_tenant_id, p_outcome, p_reason,
        p_kept)
    on conflict (event_id) do update
        set tenant_id = excluded.tenant_id, outcome = excluded.outcome, reason = excluded.reason, at = clock_timestamp(),
            kept = excluded.kept;
end
$$;

-- Why an event is none of ours; null: it is.
create function billing.reason_to_quarantine(p_event jsonb) returns text
language plpgsql stable
as $$
begin
    if p_event ->> 'account' is not null then
        return 'another account''s: ' || (p_event ->> 'account');
    end if;
    if (p_event ->> 'livemode')::boolean is distinct from (select livemode from settings) then
        return case when (p_event ->> 'livemode')::boolean then 'of live mode; this installation bills in test mode'
                    else 'of test mode; this installation bills in live mode' end;
    end if;
    return null;
end
$$;

-- One event, whatever came before it. p_event is as stripe_event_read returns it.
create function billing.apply_event(p_event jsonb, p_cause jsonb) returns void
language plpgsql
as $$
declare
    v_object jsonb := p_event -> 'object';
    v_reason text := reason_to_quarantine(p_event);
    v_tenant uuid;
    v_outcome text;
begin
    if v_reason is not null then
        perform log_event(p_event, null, 'quarantined', v_reason, p_event);
        perform catalog.raise_alert('billing-quarantine', null, 'events of Stripe''s were set aside',
            'see: tenantry billing events --outcome quarantined');
        return;
    end if;
    if jsonb_typeof(v_object) is distinct from 'object' then
        perform log_event(p_event, null, 'applied', 'it is about nothing that can be kept', null);
        return;
    end if;
    if (p_event ->> 'is_thin')::boolean then
        perform want_object(v_object ->> 'kind', v_object ->> 'id', v_object ->> 'path', 'thin');
        perform log_event(p_event, null, 'thin', null, null);
        return;
    end if;
    select a.owner, a.outcome into v_tenant, v_outcome
    from apply_object(v_object, (p_event ->> 'created')::bigint, p_event ->> 'type' like '%.created') a;
    if p_event ->> 'type' = 'invoice.payment_failed' then
        perform note_failure(p_event);
    end if;
    perform log_event(p_event, v_tenant,
        case when v_outcome <> 'apply' then v_outcome when v_tenant is null and v_object ->> 'customer' is not null then 'parked'
             else 'applied' end,
        case when v_outcome = 'apply' and v_tenant is null and v_object ->> 'customer' is not null
             then 'nobody''s yet: no tenant is named, and its customer is unknown' end, null);
    if v_tenant is not null then
        perform settle(v_tenant, p_cause);
    end if;
    perform note_money(p_event, v_tenant);
end
$$;

-- Stripe's answer about an object that was to be fetched, as of a second of its own time. p_object null: there is none.
-- p_version: of the fetch when it was taken; if more was wanted meanwhile, it is asked again.
create function billing.fetched(p_kind text, p_object_id text, p_version bigint, p_object jsonb, p_seen bigint) returns void
language plpgsql
as $$
declare
    v_tenant uuid;
    v_outcome text;
    v_cause jsonb := jsonb_build_object('id', 'fetch:' || p_object_id);
begin
    if p_object is not null then
        select a.owner, a.outcome into v_tenant, v_outcome from apply_object(p_object, p_seen, false) a;
        if v_outcome = 'tie' then -- with an event of this very second; the answer knows better
            perform put_object(p_object, p_seen, false, v_tenant);
        end if;
    end if;
    update wanted_object set taken_until = null, attempts = 0, error = null where kind = p_kind and object_id = p_object_id;
    delete from wanted_object where kind = p_kind and object_id = p_object_id and version = p_version;
    if v_tenant is not null then
        perform settle(v_tenant, v_cause);
    end if;
end
$$;

-- Up to p_limit objects to be fetched, for p_lease_ms. Those whose turn under the budget of all calls is later wait for it.
create function billing.take_wanted(p_limit int, p_lease_ms bigint, p_per_second float8) returns setof billing.wanted_object
language plpgsql
as $$
declare
    v wanted_object;
    v_wait bigint;
begin
    for v in
        select *
        from wanted_object
        where due_at <= clock_timestamp()
          and (taken_until is null or taken_until < clock_timestamp())
        order by due_at
        limit p_limit
        for update skip locked
    loop
        if not v.has_turn then
            select t.wait_ms into v_wait from catalog.take_token('stripe:calls', p_per_second / 2, p_per_second / 2) t;
            if v_wait > 50 then
                update wanted_object
                set has_turn = true, due_at = clock_timestamp() + v_wait * interval '1 ms'
                where kind = v.kind and object_id = v.object_id;
                continue;
            end if;
        end if;
        update wanted_object
        set has_turn = false, taken_until = clock_timestamp() + p_lease_ms * interval '1 ms', attempts = attempts + 1
        where kind = v.kind and object_id = v.object_id
        returning * into v;
        return next v;
    end loop;
end
$$;

-- p_limited: Stripe said "too many"; nobody calls for as long.
create function billing.fetch_failed(p_kind text, p_object_id text, p_error text, p_delay_ms bigint, p_limited boolean) returns void
language plpgsql
as $$
begin
    update wanted_object
    set taken_until = null, due_at = clock_timestamp() + p_delay_ms * interval '1 ms', error = p_error
    where kind = p_kind
      and object_id = p_object_id;
    if p_limited then
        perform catalog.block_budget('stripe:calls', p_delay_ms);
    end if;
end
$$;

create function billing.lock_tenant(p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    perform from tenant where tenant_id = p_tenant_id for update;
end
$$;

-- An event that was found in Stripe's list and is delivered after all has had its effect. It is not looked at whether the two agree:
-- Stripe's list and its webhooks may show an event in the shapes of two versions of its API.
create function billing.accept_event(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    if p_event ->> 'type' <> 'billing.stripe.received.v1' then
        perform accept_command(p_event, p_data);
        return;
    end if;
    if exists (select from fault where cause = 'billing-deliveries') then -- what is delivered shows that deliveries work
        delete from fault where cause = 'billing-deliveries';
        perform catalog.resolve_alert('billing-deliveries');
    end if;
    if not exists (select from event where event_id = p_data ->> 'id') then
        perform apply_event(p_data, p_event);
    end if;
end
$$;

-- An event that was set aside, once more, by an operator who has mended what it was set aside for: replayed, not_found, or
-- not_replayable (it was not set aside).
create function catalog.replay_stripe_event(p_number bigint, p_by text) returns text
language plpgsql security definer
set search_path = billing, durable, pg_temp
as $$
declare
    v event;
begin
    select * into v from event where number = p_number for update;
    if not found then
        return 'not_found';
    end if;
    if v.kept is null then
        return 'not_replayable';
    end if;
    perform apply_event(v.kept, jsonb_build_object('id', v.event_id));
    perform catalog.record_deed(coalesce(v.tenant_id::text, v.event_id), 'stripe_event_replayed', p_number, v.event_id, null, p_by);
    return 'replayed';
end
$$;
revoke execute on function catalog.replay_stripe_event from public;
grant execute on function catalog.replay_stripe_event to tenantry_gateway;

-- What a starting process has been told: the plans, the mode of its key. Those of the last one to start hold.
create function billing.configure(p_plans jsonb, p_livemode boolean) returns void
language plpgsql
as $$
declare
    v_plan jsonb;
    v_place int;
begin
    insert into settings as s (since, livemode, trial_plan, trial_days)
    values (clock_timestamp(), p_livemode, p_plans #>> '{trial,plan}', (p_plans #>> '{trial,days}')::int)
    on conflict (only_row) do update
        set livemode = excluded.livemode, trial_plan = excluded.trial_plan, trial_days = excluded.trial_days
        where (s.livemode, s.trial_plan, s.trial_days) is distinct from (excluded.livemode, excluded.trial_plan, excluded.trial_days);
    update plan set is_offered = false
    where is_offered
      and plan_id not in (select value ->> 'id' from jsonb_array_elements(p_plans -> 'plans'));
    for v_plan, v_place in select value, ordinality from jsonb_array_elements(p_plans -> 'plans') with ordinality loop
        insert into plan as p (plan_id, place, name, modules, limits)
        values (v_plan ->> 'id', v_place, v_plan ->> 'name', v_plan -> 'modules', v_plan -> 'limits')
        on conflict (plan_id) do update
            set place = excluded.place, name = excluded.name, modules = excluded.modules, limits = excluded.limits, is_offered = true
            where (p.place, p.name, p.modules, p.limits, p.is_offered)
                is distinct from (excluded.place, excluded.name, excluded.modules, excluded.limits, true);
        insert into price as p (lookup_key, plan_id, period)
        select value ->> 'lookup_key', v_plan ->> 'id', key
        from jsonb_each(case when jsonb_typeof(v_plan -> 'prices') = 'object' then v_plan -> 'prices' else '{}' end)
        on conflict (lookup_key) do update
            set plan_id = excluded.plan_id, period = excluded.period
            where (p.plan_id, p.period) is distinct from (excluded.plan_id, excluded.period);
    end loop;
end
$$;

-- What others have changed about tenants. p_existing_trial: tenants from before billing have a trial too, from when it began.
-- Returns how many.
create function billing.take_news(p_limit int, p_existing_trial boolean) returns int
language plpgsql
as $$
declare
    v record;
    v_since timestamptz := (select since from settings);
    v_count int := 0;
begin
    if v_since is null then
        return 0;
    end if;
    for v in
        delete from tenant_news n
        using (select x.tenant_id from tenant_news x order by x.at limit p_limit for update skip locked) due,
            provisioner.tenant_life l
        where n.tenant_id = due.tenant_id
          and l.tenant_id = n.tenant_id
        returning n.tenant_id, n.ready_at, l.created_at < v_since as existing, l.lifecycle, l.state
    loop
        v_count := v_count + 1;
        perform lock_arrival(v.tenant_id);
        insert into tenant as t (tenant_id, existing, lifecycle, ready_at)
        values (v.tenant_id, v.existing and not p_existing_trial, v.lifecycle,
            coalesce(v.ready_at, case when v.state in ('ready', 'attention') and v.existing and p_existing_trial then v_since end))
        on conflict (tenant_id) do update
            set lifecycle = excluded.lifecycle, ready_at = coalesce(t.ready_at, excluded.ready_at);
        perform lock_customer(o.customer_id),
            learn_customer(o.customer_id, v.tenant_id, coalesce((o.body ->> 'created')::bigint, o.seen))
        from object o
        where o.claimed = v.tenant_id
          and o.tenant_id is null
          and o.customer_id is not null;
        perform adopt(v.tenant_id, c.customer_id) from customer c where c.tenant_id = v.tenant_id;
        perform adopt(v.tenant_id, null);
        perform settle(v.tenant_id, jsonb_build_object('id', null));
    end loop;
    return v_count;
end
$$;

create view gateway.billing_event as
select e.number, e.event_id, e.type, e.outcome, e.tenant_id, e.object_id, e.customer_id,
    jsonb_build_object('number', e.number, 'event_id', e.event_id, 'type', e.type, 'created', catalog.json_time(to_timestamp(e.created)),
        'api_version', e.api_version, 'kind', e.kind, 'object_id', e.object_id, 'customer_id', e.customer_id,
        'tenant_id', e.tenant_id, 'outcome', e.outcome, 'reason', e.reason, 'at', catalog.json_time(e.at)) as item
from billing.event e;
grant select on gateway.billing_event to tenantry_gateway;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
