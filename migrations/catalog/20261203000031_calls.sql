-- What is asked of Stripe for a tenant: checkouts, the customer portal, changes of plan, ends. One request at a time for each
-- tenant, as a saga; each call that changes something is stored with its idempotency key before it is sent.
-- migrate:up
set local check_function_bodies = off;

insert into catalog.activity (kind, service, first_step)
values
    ('checkout', 'billing', 'customer'),
    ('portal', 'billing', 'customer'),
    ('change_plan', 'billing', 'look'),
    ('cancel', 'billing', 'look'),
    ('resume', 'billing', 'look'),
    ('preview', 'billing', 'look'),
    ('end_subscription', 'billing', 'look'),
    ('end_duplicate', 'billing', 'look');

alter table billing.settings add column has_stripe boolean not null default false; -- the last process to start has a key
alter table billing.tenant add column ended boolean not null default false; -- at Stripe, since it is archived or gone

-- What waits for its turn or is being done. A row goes when its saga has ended.
create table billing.request (
    saga_id uuid primary key default gen_random_uuid(),
    number bigint generated always as identity,
    tenant_id uuid not null,
    kind text not null references catalog.activity,
    caused_by text,
    traceparent text,
    data jsonb not null,
    is_running boolean not null default false
);
create index request_of_tenant on billing.request (tenant_id, number);
create unique index request_running on billing.request (tenant_id) where is_running;

-- Requests to Stripe as they are sent, with the key under which a repetition does nothing twice. Stripe forgets a key after a day;
-- before that, or if it has saved a failure of its own under it, the saga begins anew and looks what was done.
create table billing.stripe_call (
    saga_id uuid not null references billing.request on delete cascade,
    name text not null,
    key text not null default 'tenantry-' || gen_random_uuid(),
    method text not null,
    path text not null,
    params jsonb not null,
    frozen_at timestamptz not null,
    is_spent boolean not null default false,
    primary key (saga_id, name)
);

-- A page of Stripe's for who waits for it, sealed with APP_KEYS: whoever has the address can act.
create table billing.link (
    operation_id uuid primary key,
    tenant_id uuid not null,
    sealed text not null,
    made_at timestamptz not null default clock_timestamp()
);
create index link_age on billing.link (made_at);

grant select, insert, update, delete on billing.request, billing.stripe_call, billing.link to tenantry_billing;
grant usage on all sequences in schema billing to tenantry_billing;

create view gateway.billing_link as
select operation_id, tenant_id, sealed
from billing.link
where made_at > clock_timestamp() - interval '1 hour';
create view gateway.billing_setup as
select has_stripe
from billing.settings;
grant select on gateway.billing_link, gateway.billing_setup to tenantry_gateway;

create function billing.know_stripe(p_has_key boolean) returns void
language sql
as $$
    update settings set has_stripe = p_has_key where has_stripe <> p_has_key
$$;

-- The oldest that waits, unless one is being done. The caller has the tenant's row.
create function billing.start_next(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v request;
begin
    if exists (select from request where tenant_id = p_tenant_id and is_running) then
        return;
    end if;
    select * into v from request where tenant_id = p_tenant_id order by number limit 1;
    if v.saga_id is null then
        return;
    end if;
    update request set is_running = true where saga_id = v.saga_id;
    insert into saga (saga_id, tenant_id, kind, step, data, caused_by, traceparent)
    select v.saga_id, v.tenant_id, v.kind, a.first_step, v.data, v.caused_by, v.traceparent
    from catalog.activity a
    where a.kind = v.kind;
    perform catalog.record_change(p_tenant_id, 'tenant.activity.started.v1', jsonb_build_object('activity', v.kind),
        v.caused_by, v.traceparent);
end
$$;

create function billing.ask_stripe(p_tenant_id uuid, p_kind text, p_cause jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    insert into request (tenant_id, kind, caused_by, traceparent, data)
    values (p_tenant_id, p_kind, p_cause ->> 'id', p_cause ->> 'traceparent', p_data);
    perform start_next(p_tenant_id);
end
$$;

-- A command that Stripe has to be asked for. What can be known here is judged here; the rest where it is done.
create function billing.accept_request(t billing.tenant, p_kind text, p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_price price;
begin
    if not coalesce((select has_stripe from settings), false) then
        perform refuse(p_event, t.tenant_id, p_kind, 'stripe_not_configured', null,
            'billing has no key of Stripe''s: trials and overrides work, payments do not');
        return;
    end if;
    if p_data ? 'plan' and not exists (select from plan where plan_id = p_data ->> 'plan' and is_offered) then
        perform refuse(p_event, t.tenant_id, p_kind, 'plan_unknown', 'plan', format('there is no plan %s', p_data ->> 'plan'));
        return;
    end if;
    if p_data ? 'plan' then
        select * into v_price
        from price
        where plan_id = p_data ->> 'plan'
          and period = p_data ->> 'interval';
        if v_price.lookup_key is null then
            perform refuse(p_event, t.tenant_id, p_kind, 'not_sold', 'interval',
                format('the plan %s is not sold by the %s', p_data ->> 'plan', p_data ->> 'interval'));
            return;
        end if;
    end if;
    perform put_operation(p_event, t.tenant_id, p_kind, null);
    perform catalog.record_change(t.tenant_id, 'tenant.command.accepted.v1',
        jsonb_build_object('command', p_kind, 'reason', p_data -> 'reason', 'source', p_event -> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform ask_stripe(t.tenant_id, p_kind, p_event,
        jsonb_strip_nulls((p_data - 'tenant_id') || jsonb_build_object('lookup_key', v_price.lookup_key)));
end
$$;

create function billing.carry_out(t billing.tenant, p_kind text, p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    case p_kind
        when 'override' then perform accept_override(t, p_event, p_data);
        when 'usage' then perform accept_usage(t, p_event, p_data);
        else perform accept_request(t, p_kind, p_event, p_data);
    end case;
end
$$;

-- What the steps of a saga know: the tenant, its customers at Stripe that are not deleted (the newest first), the end of its
-- trial while it has one (of one that has not begun, since the tenant is not ready yet: as if it began now), and how much it uses.
create function billing.saga_context(p_tenant_id uuid) returns jsonb
language sql stable
as $$
    select jsonb_build_object('tenant_id', t.tenant_id, 'lifecycle', t.lifecycle, 'slug', l.slug, 'company', l.company,
        'email', l.email, 'plan', t.subscription -> 'plan', 'subscription_id', t.subscription -> 'subscription_id',
        'now', floor(extract(epoch from catalog.business_now()))::bigint,
        'trial_end', case when t.subscription ->> 'status' = 'trial' and not t.subscription ? 'subscription_id'
                          then floor(extract(epoch from coalesce((t.subscription ->> 'trial_end')::timestamptz,
                              catalog.business_now() + (select trial_days from settings) * interval '1 day')))::bigint end,
        'customers', (select coalesce(jsonb_agg(c.customer_id order by c.since desc, c.customer_id), '[]')
                      from customer c
                      where c.tenant_id = t.tenant_id
                        and not exists (select from object o
                                        where o.kind = 'customer' and o.object_id = c.customer_id and o.is_deleted)))
    from tenant t
    join provisioner.tenant_life l using (tenant_id)
    where t.tenant_id = p_tenant_id
$$;

-- The limits of a plan of which the tenant uses more: it cannot change to that.
create function billing.blockers(p_tenant_id uuid, p_plan text) returns jsonb
language sql stable
as $$
    select over(p.limits, t.usage)
    from plan p, tenant t
    where p.plan_id = p_plan
      and t.tenant_id = p_tenant_id
$$;

-- Whoever has the saga holds the tenant's row first, as commands do.
create function billing.hold_saga(p_saga_id uuid, p_fence bigint) returns void
language plpgsql
as $$
begin
    perform lock_tenant((select tenant_id from saga where saga_id = p_saga_id));
    perform durable.saga_check(p_saga_id, p_fence);
end
$$;

-- The request as it is to be sent: what was stored before, if there is that. is_stale: it may have been carried out, and its key
-- does not protect any more; it is forgotten here, and whoever asks looks what was done before he asks again.
create function billing.freeze_call(p_saga_id uuid, p_fence bigint, p_name text, p_method text, p_path text, p_params jsonb)
returns table (method text, path text, params jsonb, key text, is_stale boolean)
language plpgsql
as $$
begin
    perform hold_saga(p_saga_id, p_fence);
    delete from stripe_call c
    where c.saga_id = p_saga_id
      and c.name = p_name
      and (c.is_spent or c.frozen_at < catalog.business_now() - interval '23 hours');
    if found then
        return query select p_method, p_path, p_params, null::text, true;
        return;
    end if;
    insert into stripe_call as c (saga_id, name, method, path, params, frozen_at)
    values (p_saga_id, p_name, p_method, p_path, p_params, catalog.business_now())
    on conflict (saga_id, name) do nothing;
    return query
        select c.method, c.path, c.params, c.key, false from stripe_call c where c.saga_id = p_saga_id and c.name = p_name;
end
$$;

-- Stripe has saved a failure of its own under the key, and would give it again for a day.
create function billing.spend_call(p_saga_id uuid, p_fence bigint, p_name text) returns void
language plpgsql
as $$
begin
    perform hold_saga(p_saga_id, p_fence);
    update stripe_call set is_spent = true where saga_id = p_saga_id and name = p_name;
end
$$;

-- Stripe would not, for something has changed there: what is asked after another look is another request.
create function billing.forget_calls(p_saga_id uuid, p_fence bigint) returns void
language plpgsql
as $$
begin
    perform hold_saga(p_saga_id, p_fence);
    delete from stripe_call where saga_id = p_saga_id;
end
$$;

-- What Stripe has answered, as of a second of its time: known at once, without waiting for the events that tell the same.
create function billing.keep_answers(p_saga_id uuid, p_fence bigint, p_objects jsonb, p_seen bigint) returns void
language plpgsql
as $$
declare
    v saga;
    v_object jsonb;
    v_owner uuid;
    v_outcome text;
begin
    perform hold_saga(p_saga_id, p_fence);
    select * into v from saga where saga_id = p_saga_id;
    for v_object in select value from jsonb_array_elements(p_objects) loop
        select a.owner, a.outcome into v_owner, v_outcome from apply_object(v_object, p_seen, false) a;
        if v_outcome = 'tie' then
            perform put_object(v_object, p_seen, false, v_owner);
        end if;
    end loop;
    perform settle(v.tenant_id, jsonb_build_object('id', v.caused_by, 'traceparent', v.traceparent));
end
$$;

create function billing.keep_link(p_saga_id uuid, p_fence bigint, p_sealed text) returns void
language plpgsql
as $$
begin
    perform hold_saga(p_saga_id, p_fence);
    delete from link where made_at < clock_timestamp() - interval '1 hour';
    insert into link as l (operation_id, tenant_id, sealed)
    select catalog.read_uuid(s.caused_by), s.tenant_id, p_sealed
    from saga s
    where s.saga_id = p_saga_id
      and catalog.read_uuid(s.caused_by) is not null
    on conflict (operation_id) do update
        set sealed = excluded.sealed, made_at = clock_timestamp();
end
$$;

-- The end of a request: its operation says how, and the next one has its turn. A refusal is nobody's failure.
create function billing.saga_ended(p_saga_id uuid) returns void
language plpgsql
as $$
declare
    v saga;
    v_refused jsonb;
begin
    select * into v from saga where saga_id = p_saga_id;
    v_refused := v.data -> 'refused';
    perform catalog.record_change(v.tenant_id, 'tenant.activity.finished.v1',
        jsonb_build_object('activity', v.kind, 'outcome', v.status, 'error', v.error), v.caused_by, v.traceparent);
    update catalog.operation o
    set state = case when v.status = 'done' then 'succeeded' when v_refused is not null then 'rejected' else 'failed' end,
        code = case when v.status <> 'done' then v.error ->> 'code' end,
        field = v_refused ->> 'field',
        detail = case when v.status <> 'done' then v.error ->> 'detail' end,
        result = coalesce(v_refused -> 'more', v.data -> 'result', '{}'),
        finished_at = clock_timestamp()
    where o.operation_id = catalog.read_uuid(v.caused_by)
      and o.service = 'billing'
      and o.state = 'accepted';
    if v.kind = 'end_subscription' and v.status = 'done' then
        update tenant set ended = true where tenant_id = v.tenant_id and lifecycle <> 'live';
        perform catalog.resolve_alert('billing-end:' || v.tenant_id);
    elsif v.kind = 'end_subscription' then
        perform catalog.raise_alert('billing-end:' || v.tenant_id, v.tenant_id,
            'the subscription of a tenant that is archived or gone could not be ended',
            format('end it at Stripe: %s', coalesce(v.error ->> 'detail', 'no error is known')));
    end if;
    delete from request where saga_id = p_saga_id;
    perform start_next(v.tenant_id);
end
$$;

-- The plan of a price by its id, as far as prices are known.
create function billing.plan_of_price(p_price text, out plan text, out period text)
language sql stable
as $$
    select p.plan, p.period
    from object o,
        plan_of_prices(jsonb_build_array(jsonb_build_object('lookup_key', o.body -> 'lookup_key',
            'plan', o.body #> '{metadata,plan}', 'interval', o.body #> '{recurring,interval}'))) p
    where o.kind = 'price'
      and o.object_id = p_price
$$;

-- What a schedule will make of the subscription: {plan, interval, at}; null: nothing is planned.
create function billing.planned_change(p_tenant_id uuid, p_live billing.object, p_now timestamptz) returns jsonb
language plpgsql stable
as $$
declare
    v_phase jsonb;
    v_plan text;
    v_period text;
begin
    select ph.value into v_phase
    from object o
    cross join lateral jsonb_array_elements(o.facts -> 'phases') ph
    where o.tenant_id = p_tenant_id
      and o.kind = 'subscription_schedule'
      and o.object_id = p_live.facts ->> 'schedule'
      and not o.is_deleted
      and o.facts ->> 'status' in ('active', 'not_started')
      and (ph.value ->> 'start')::bigint > extract(epoch from p_now)
      and ph.value ->> 'price' is distinct from p_live.facts #>> '{prices,0,price}'
    order by (ph.value ->> 'start')::bigint
    limit 1;
    if v_phase is null then
        return null;
    end if;
    select plan, period into v_plan, v_period from plan_of_price(v_phase ->> 'price');
    return jsonb_build_object('plan', v_plan, 'interval', v_period,
        'at', catalog.json_time(to_timestamp((v_phase ->> 'start')::bigint)));
end
$$;

-- What follows from a tenant's objects at Stripe beside its subscription: a price that no plan has, a second subscription, and one of
-- a tenant that is archived or gone.
create function billing.look_after(t billing.tenant, p_subscription jsonb) returns void
language plpgsql
as $$
declare
    v_live object := live_subscription(t.tenant_id);
    v_plan text;
    v_all text[];
    v_price text;
begin
    if v_live.object_id is not null then
        select plan into v_plan from plan_of_prices(v_live.facts -> 'prices');
    end if;
    if v_live.object_id is not null and v_plan is null then
        perform catalog.raise_alert('billing-unknown-price:' || t.tenant_id, t.tenant_id,
            'a subscription has a price that is in no plan',
            format('%s has the price %s; until PLANS has it, the plan stays %s', v_live.object_id,
                coalesce(v_live.facts #>> '{prices,0,lookup_key}', v_live.facts #>> '{prices,0,price}', 'unknown'),
                coalesce(p_subscription ->> 'plan', 'none')));
    elsif exists (select from catalog.alert where cause = 'billing-unknown-price:' || t.tenant_id and resolved_at is null) then
        perform catalog.resolve_alert('billing-unknown-price:' || t.tenant_id);
    end if;
    select array_agg(o.object_id order by (o.facts ->> 'start_date')::bigint, o.object_id) into v_all
    from object o
    where o.tenant_id = t.tenant_id
      and o.kind = 'subscription'
      and not o.is_deleted
      and not o.is_terminal
      and o.facts ->> 'status' <> 'incomplete';
    if cardinality(v_all) > 1 then
        perform catalog.raise_alert('billing-duplicate:' || t.tenant_id, t.tenant_id,
            'a tenant has more than one subscription, and pays for each',
            format('%s; to cancel and refund the later: tenantry billing end-duplicate %s', array_to_string(v_all, ', '),
                   t.tenant_id));
    elsif exists (select from catalog.alert where cause = 'billing-duplicate:' || t.tenant_id and resolved_at is null) then
        perform catalog.resolve_alert('billing-duplicate:' || t.tenant_id);
    end if;
    for v_price in
        select distinct ph.value ->> 'price'
        from object o
        cross join lateral jsonb_array_elements(o.facts -> 'phases') ph
        where o.tenant_id = t.tenant_id
          and o.kind = 'subscription_schedule'
          and o.object_id = v_live.facts ->> 'schedule'
          and not exists (select from object p where p.kind = 'price' and p.object_id = ph.value ->> 'price')
    loop
        perform want_object('price', v_price, null, 'schedule');
    end loop;
    perform end_if_over(t, v_live.object_id);
end
$$;

-- What was asked for a tenant last: its archive, for one.
create view provisioner.tenant_cause as
select tenant_id, caused_by, traceparent
from provisioner.tenant;
grant select on provisioner.tenant_cause to tenantry_billing;

create function billing.end_if_over(t billing.tenant, p_live text) returns void
language plpgsql
as $$
begin
    if t.lifecycle = 'live' then
        if t.ended then
            update tenant set ended = false where tenant_id = t.tenant_id;
        end if;
        return;
    end if;
    if (t.ended and p_live is null) or not exists (select from customer where tenant_id = t.tenant_id)
        or exists (select from request where tenant_id = t.tenant_id and kind = 'end_subscription') then
        return;
    end if;
    if (select has_stripe from settings) then
        perform ask_stripe(t.tenant_id, 'end_subscription',
            (select jsonb_build_object('id', caused_by, 'traceparent', traceparent) from provisioner.tenant_cause
             where tenant_id = t.tenant_id), '{}');
    elsif p_live is not null then
        perform catalog.raise_alert('billing-end:' || t.tenant_id, t.tenant_id,
            'a tenant that is archived or gone has a subscription still',
            format('billing has no key of Stripe''s: end %s there', p_live));
    end if;
end
$$;

-- Money that comes for a tenant that has nothing for it any more.
create function billing.note_late_money() returns trigger
language plpgsql
as $$
begin
    if exists (select from tenant where tenant_id = new.tenant_id and lifecycle <> 'live') then
        perform catalog.raise_alert('billing-late-money:' || new.tenant_id, new.tenant_id,
            'a tenant that is archived or gone has paid',
            format('the invoice %s was paid: refund it at Stripe', new.object_id));
    end if;
    return null;
end
$$;
create trigger late_money_first after insert on billing.object for each row
    when (new.kind = 'invoice' and new.facts ->> 'status' = 'paid' and (new.facts ->> 'amount_paid')::bigint > 0)
    execute function billing.note_late_money();
create trigger late_money after update on billing.object for each row
    when (new.kind = 'invoice' and new.facts ->> 'status' = 'paid' and (new.facts ->> 'amount_paid')::bigint > 0
        and old.facts ->> 'status' is distinct from 'paid')
    execute function billing.note_late_money();

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
