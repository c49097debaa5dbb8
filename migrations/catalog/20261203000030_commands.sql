-- What is asked of billing: overrides (a plan by talking, a gift), and what a tenant uses; and what a tenant is entitled to, for
-- its product. Beside Stripe's events these are the second topic that billing reads.
-- migrate:up
set local check_function_bodies = off;

alter table billing.tenant
    add column usage jsonb, -- {branches, users, items, at}, as reported last
    add column entitled jsonb; -- {plan, modules, limits, over}, as computed: see entitlements_of

-- Limits of which more is used than there may be. A limit of null, and one that nobody reported on, is kept.
create function billing.over(p_limits jsonb, p_usage jsonb) returns jsonb
language sql immutable
as $$
    select coalesce(jsonb_agg(jsonb_build_object('limit', l.key, 'used', p_usage -> l.key, 'most', l.value) order by l.key), '[]')
    from jsonb_each(p_limits) l
    where jsonb_typeof(l.value) = 'number'
      and jsonb_typeof(p_usage -> l.key) = 'number'
      and (p_usage ->> l.key)::numeric > (l.value #>> '{}')::numeric
$$;

-- What a tenant may use, by what its subscription is and by its override while that holds.
create function billing.entitlements_of(t billing.tenant, p_subscription jsonb) returns jsonb
language plpgsql stable
as $$
declare
    v_plan plan;
    v_override jsonb := case when p_subscription ->> 'reason' = 'override' then t.override end;
    v_limits jsonb;
begin
    select * into v_plan from plan where plan_id = p_subscription ->> 'plan';
    v_limits := coalesce(v_plan.limits, '{}') || coalesce(v_override -> 'limits', '{}');
    return jsonb_build_object('plan', v_plan.plan_id, 'modules', coalesce(v_override -> 'modules', v_plan.modules, '[]'),
        'limits', v_limits, 'over', over(v_limits, t.usage));
end
$$;

grant select (cause, resolved_at) on catalog.alert to tenantry_billing;

-- A plan that sells something else now: who has it is told.
create function billing.plan_changed() returns trigger
language plpgsql
as $$
begin
    perform set_timer('settle', tenant_id::text, catalog.business_now())
    from tenant
    where subscription ->> 'plan' = new.plan_id;
    return null;
end
$$;
create trigger plan_changed after insert or update on billing.plan for each row execute function billing.plan_changed();

-- Billing's part of a tenant's snapshot.
create view billing.tenant_part as
select t.tenant_id,
    jsonb_build_object(
        'subscription', billing.told(t.subscription),
        'modules', coalesce(t.entitled -> 'modules', p.modules, '[]'),
        'limits', coalesce(t.entitled -> 'limits', p.limits, '{}')) as part
from billing.tenant t
left join billing.plan p on p.plan_id = t.subscription ->> 'plan'
where t.subscription is not null;
select catalog.add_snapshot_part('billing');

-- The end of what an event asked for, where nothing has to be waited for.
create function billing.finish(p_event jsonb, p_state text, p_code text default null, p_detail text default null) returns void
language sql
as $$
    update catalog.operation
    set state = p_state, code = p_code, detail = p_detail, finished_at = clock_timestamp()
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = 'billing'
      and source = coalesce(p_event ->> 'source', '')
      and state = 'accepted'
$$;

create function billing.take_waiting() returns trigger
language plpgsql
as $$
declare
    v catalog.parked;
begin
    perform lock_arrival(new.tenant_id);
    for v in
        delete from catalog.parked
        where service = 'billing'
          and reason = 'tenant_unknown'
          and tenant_id = new.tenant_id
        returning *
    loop
        perform accept_command(v.event, v.data);
    end loop;
    return null;
end
$$;
create trigger take_waiting after insert on billing.tenant for each row execute function billing.take_waiting();
create index parked_for_billing on catalog.parked (tenant_id) where service = 'billing' and reason = 'tenant_unknown';

create function billing.park_command(p_event jsonb, p_data jsonb, p_kind text) returns void
language plpgsql
as $$
begin
    insert into catalog.parked (service, tenant_id, reason, event, data)
    values ('billing', (p_data ->> 'tenant_id')::uuid, 'tenant_unknown', p_event, p_data);
    perform put_operation(p_event, (p_data ->> 'tenant_id')::uuid, p_kind, null);
    update catalog.operation
    set code = 'parked', detail = 'no tenant of this id has signed up: the command waits for its signup, 30 days at most'
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = 'billing'
      and source = coalesce(p_event ->> 'source', '')
      and state = 'accepted';
end
$$;

-- Gives the tenant something that it has not bought, or takes that back.
create function billing.accept_override(t billing.tenant, p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_until timestamptz := (p_data ->> 'until')::timestamptz;
    v_override jsonb := p_data - 'tenant_id' - 'limits';
begin
    if p_data ? 'limits' then -- one without a most has no limit
        v_override := v_override || jsonb_build_object('limits', (
            select coalesce(jsonb_object_agg(value ->> 'name', coalesce(value -> 'most', 'null')), '{}')
            from jsonb_array_elements(p_data -> 'limits')));
    end if;
    if p_data ? 'plan' and not exists (select from plan where plan_id = p_data ->> 'plan' and is_offered) then
        perform refuse(p_event, t.tenant_id, 'override', 'plan_unknown', 'plan',
            format('there is no plan %s', p_data ->> 'plan'));
        return;
    end if;
    if v_until <= catalog.business_now() then
        perform refuse(p_event, t.tenant_id, 'override', 'until_passed', 'until', 'until must be in the future');
        return;
    end if;
    perform put_operation(p_event, t.tenant_id, 'override', null);
    update tenant
    set override = case when not coalesce((p_data ->> 'remove')::boolean, false) then v_override end
    where tenant_id = t.tenant_id;
    perform catalog.record_change(t.tenant_id, 'tenant.command.accepted.v1',
        jsonb_build_object('command', 'override', 'reason', p_data -> 'reason', 'source', p_event -> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform settle(t.tenant_id, p_event);
    perform finish(p_event, 'succeeded');
end
$$;

-- How much the tenant uses: the newest report counts, whichever comes first. Clocks may differ by five minutes.
create function billing.accept_usage(t billing.tenant, p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_at timestamptz := (p_data ->> 'at')::timestamptz;
begin
    if v_at > greatest(catalog.business_now(), clock_timestamp()) + interval '5 minutes' then
        perform refuse(p_event, t.tenant_id, 'usage', 'usage_in_the_future', 'at', 'at must not be in the future');
        return;
    end if;
    perform put_operation(p_event, t.tenant_id, 'usage', null);
    if v_at <= (t.usage ->> 'at')::timestamptz then
        perform finish(p_event, 'superseded', 'newer_usage_known', 'a report that is as new, or newer, is known');
        return;
    end if;
    update tenant
    set usage = p_data - 'tenant_id'
    where tenant_id = t.tenant_id;
    perform settle(t.tenant_id, p_event);
    perform finish(p_event, 'succeeded');
end
$$;

create function billing.accept_command(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_kind text := split_part(p_event ->> 'type', '.', 2);
    v tenant;
begin
    select * into v from tenant where tenant_id = v_tenant for update;
    if not found then
        perform lock_arrival(v_tenant);
        select * into v from tenant where tenant_id = v_tenant for update;
    end if;
    if v.tenant_id is null then
        perform park_command(p_event, p_data, v_kind);
    elsif v.lifecycle = 'gone' then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_gone', null, 'this tenant is deprovisioned');
    elsif v.lifecycle = 'archived' then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_archived', null, 'this tenant is archived');
    else
        perform carry_out(v, v_kind, p_event, p_data);
    end if;
end
$$;

-- What a tenant's product may do. why: operator, archived, or the subscription's reason or status.
create view gateway.entitlements as
select r.tenant_id,
    jsonb_build_object('tenant_id', r.tenant_id, 'plan', t.entitled -> 'plan', 'modules', coalesce(t.entitled -> 'modules', '[]'),
        'limits', coalesce(t.entitled -> 'limits', '{}'), 'over', coalesce(t.entitled -> 'over', '[]'), 'usage', t.usage,
        'access', case when a.why is null then 'full' else 'none' end,
        'why', coalesce(a.why, t.subscription ->> 'reason', t.subscription ->> 'status', 'not_billed'),
        'until', case when a.why is null then t.subscription -> 'access_until' end,
        'subscription', billing.told(t.subscription)) as item
from gateway.tenant_row r
left join billing.tenant t using (tenant_id)
cross join lateral (
    select case
        when r.state in ('archived', 'deprovisioned') or t.lifecycle <> 'live' then 'archived'
        when exists (select from catalog.access_wanted w
                     where w.tenant_id = r.tenant_id and w.source = 'operator' and w.wanted = 'none') then 'operator'
        when t.access = 'none' then coalesce(t.subscription ->> 'reason', t.subscription ->> 'status', 'cancelled')
    end as why
) a;
grant select on gateway.entitlements to tenantry_gateway;

-- What a tenant has bought and what it paid. No links: whoever has one can act with it.
create view gateway.billing as
select r.tenant_id,
    jsonb_build_object('tenant_id', r.tenant_id, 'plan', t.entitled -> 'plan', 'subscription', billing.told(t.subscription),
        'over', coalesce(t.entitled -> 'over', '[]'), 'usage', t.usage, 'override', t.override,
        'customer_id', (select c.customer_id from billing.customer c where c.tenant_id = r.tenant_id
                        order by c.since desc, c.customer_id limit 1),
        'subscription_id', t.subscription -> 'subscription_id',
        'invoices', (select coalesce(jsonb_agg(i.item order by i.created desc, i.object_id), '[]') from (
            select o.object_id, (o.facts ->> 'created')::bigint as created,
                jsonb_build_object('invoice_id', o.object_id, 'number', o.facts -> 'number', 'status', o.facts -> 'status',
                    'currency', o.facts -> 'currency', 'amount_due', o.facts -> 'amount_due',
                    'amount_paid', o.facts -> 'amount_paid', 'why', o.facts -> 'billing_reason',
                    'created', catalog.json_time(to_timestamp((o.facts ->> 'created')::bigint)),
                    'next_attempt', catalog.json_time(to_timestamp((o.facts ->> 'next_payment_attempt')::bigint))) as item
            from billing.object o
            where o.tenant_id = r.tenant_id
              and o.kind = 'invoice'
              and not o.is_deleted
            order by 2 desc, 1
            limit 24) i),
        'next', case
            when t.lifecycle <> 'live' then null
            when t.subscription -> 'pending' <> 'null' then jsonb_build_object('what', 'change', 'at', t.subscription #> '{pending,at}')
            when t.subscription ? 'cancel_at' then jsonb_build_object('what', 'end', 'at', t.subscription -> 'cancel_at')
            when t.subscription ? 'archive_at' then jsonb_build_object('what', 'archive', 'at', t.subscription -> 'archive_at')
            when t.subscription ? 'grace_until' then jsonb_build_object('what', 'suspend', 'at', t.subscription -> 'grace_until')
            when t.subscription ->> 'status' = 'trial' and not t.subscription ? 'subscription_id'
                then jsonb_build_object('what', 'suspend', 'at', t.subscription -> 'trial_end')
            when t.subscription ? 'period_end' then jsonb_build_object('what', 'renew', 'at', t.subscription -> 'period_end')
        end) as item
from gateway.tenant_row r
left join billing.tenant t using (tenant_id);
grant select on gateway.billing to tenantry_gateway;

-- Those who were there before get their entitlements computed, and what follows told.
insert into catalog.timer (service, name, key, due_at)
select 'billing', 'settle', tenant_id::text, catalog.business_now()
from billing.tenant
where lifecycle <> 'gone'
on conflict (service, name, key) do update
    set due_at = least(timer.due_at, excluded.due_at);

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
