-- An event of Stripe's took two milliseconds of the processor's time. What it is about is read once now, and told to whoever needs it:
-- the subscription that counts, and what the tenant's subscription is by that. Besides, what happens to the living is not held up by
-- tenants that are archived or gone, whose time is over as well.
-- migrate:up
set local check_function_bodies = off;

-- Functions of SQL whose bodies are "stable" are inlined if they say so, and are planned at each call if they claim to be "immutable".
alter function billing.told stable;
alter function billing.message_id stable;

create or replace function billing.subscription_of(t billing.tenant, p_now timestamptz) returns jsonb
language sql stable
as $$
    select subscription_of(t, p_now, live_subscription(t.tenant_id))
$$;

create or replace function billing.planned_change(p_tenant_id uuid, p_live billing.object, p_now timestamptz) returns jsonb
language plpgsql stable
as $$
declare
    v_phase jsonb;
    v_plan text;
    v_period text;
begin
    if p_live.facts ->> 'schedule' is null then
        return null;
    end if;
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

create or replace function billing.mails_due(t billing.tenant, p_now timestamptz)
returns table (kind text, step int, cause text, due_at timestamptz, until timestamptz)
language sql stable
as $$
    select * from mails_due(t, p_now, subscription_of(t, p_now))
$$;

-- The timer of that name of a tenant's, which is written when it changes; p_due_at null: there is none. Without a scan: the plan may be
-- older than most timers are.
create or replace function billing.put_timer(p_name text, p_tenant_id uuid, p_due_at timestamptz) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v_set timestamptz;
begin
    select due_at into v_set from catalog.timer where service = 'billing' and name = p_name and key = p_tenant_id::text;
    if p_due_at is not null and v_set is distinct from p_due_at then
        perform set_timer(p_name, p_tenant_id::text, p_due_at);
    elsif p_due_at is null and v_set is not null then
        perform drop_timer(p_name, p_tenant_id::text);
    end if;
end
$$;
drop function billing.settle_timer;

-- Puts the mails that are due on their way, and has this asked again when the next one is. s: what the tenant's subscription is now.
create function billing.settle_mails(t billing.tenant, s jsonb, p_now timestamptz) returns void
language plpgsql
as $$
declare
    v_next timestamptz;
    v_put bigint;
begin
    with due as (
        select * from mails_due(t, p_now, s)
    ), put as (
        insert into mail as m (tenant_id, kind, step, cause, message_id, due_at)
        select t.tenant_id, d.kind, d.step, d.cause, message_id(t.tenant_id, d.kind, d.step, d.cause), d.due_at
        from due d
        where d.due_at <= p_now
          and p_now < d.until
        on conflict (tenant_id, kind, step, cause) do update
            set state = 'waiting', attempts = 0, next_at = clock_timestamp(), error = null
            where m.state = 'void'
        returning 1
    )
    select (select min(due_at) from due where due_at > p_now and due_at < until), (select count(*) from put) into v_next, v_put;
    perform put_timer('mails', t.tenant_id, v_next);
    perform plan_archive(t, p_now);
end
$$;

create or replace function billing.settle_mails(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    t tenant;
    v_now timestamptz := catalog.business_now();
begin
    select * into t from tenant where tenant_id = p_tenant_id;
    perform settle_mails(t, subscription_of(t, v_now), v_now);
end
$$;

-- settle sees to the mails of what it changes itself.
drop trigger follow_tenant on billing.tenant;
create trigger follow_tenant after update on billing.tenant for each row
    when ((old.lifecycle, old.ready_at, old.override, old.link_asked_at, old.archive_held, old.archive_released)
          is distinct from
          (new.lifecycle, new.ready_at, new.override, new.link_asked_at, new.archive_held, new.archive_released))
    execute function billing.follow_tenant();

-- Whether so many lose access at this time that something is more likely to be wrong: those who have lost it within ten minutes,
-- and those who are to lose it now, are over five, and over a twentieth of all who had it; archived ones do not count. p_ended: when this one's time was over;
-- until somebody has released those whose time was over by then.
create or replace function billing.is_mass_suspension(p_tenant_id uuid, p_ended timestamptz, p_now timestamptz) returns boolean
language plpgsql
as $$
declare
    v_released timestamptz := coalesce((select released_at from settings), '-infinity');
    v_lost bigint;
    v_losing bigint;
begin
    if p_ended <= v_released then
        return false;
    end if;
    select count(*) into v_lost
    from tenant
    where suspended_at > clock_timestamp() - interval '10 minutes'
      and lifecycle = 'live';
    select count(*) into v_losing
    from tenant
    where access = 'full'
      and lifecycle = 'live'
      and access_until <= p_now
      and access_until > v_released
      and tenant_id <> p_tenant_id;
    return v_lost + v_losing + 1 > 5
        and (v_lost + v_losing + 1) * 20 > v_lost + (select count(*) from tenant where access = 'full' and lifecycle = 'live');
end
$$;

-- Brings what is known of the tenant's subscription up to date, and what follows from it: its access, what watchers are told, its
-- mails, the time at which it is to be asked again.
create or replace function billing.settle(p_tenant_id uuid, p_cause jsonb) returns void
language plpgsql
as $$
declare
    v tenant;
    v_changed tenant;
    v_now timestamptz := catalog.business_now();
    v_live object;
    v_next jsonb;
    v_entitled jsonb;
begin
    select * into v from tenant where tenant_id = p_tenant_id for update;
    v_live := live_subscription(p_tenant_id);
    v_next := subscription_of(v, v_now, v_live);
    v_entitled := entitlements_of(v, v_next);
    if v_next ->> 'access' = 'none' and v.access = 'full' and v.lifecycle = 'live'
        and is_mass_suspension(p_tenant_id, (v_next ->> 'access_ended')::timestamptz, v_now) then
        if not v.held then -- the alert is one row for all
            update tenant set held = true, access_until = (v_next ->> 'access_ended')::timestamptz where tenant_id = p_tenant_id;
            perform catalog.raise_alert('billing-mass-suspension', null, 'many tenants would be suspended at once',
                'their time is over, but more than five and more than a twentieth of all at once may be a fault: see tenantry billing held; '
                'tenantry billing release suspends them');
        end if;
        perform look_after(v, v_next, v_live);
        perform set_timer('settle', p_tenant_id::text, date_bin('6 hours', v_now, 'epoch') + interval '6 hours'); -- all of them at once
        return;
    end if;
    if v_next - 'next_at' is distinct from v.subscription or v_entitled is distinct from v.entitled or v.held then
        update tenant
        set subscription = v_next - 'next_at', entitled = v_entitled, access = v_next ->> 'access', held = false,
            access_until = (v_next ->> 'access_until')::timestamptz,
            suspended_at = case when v_next ->> 'access' = 'none' then coalesce(suspended_at, clock_timestamp()) end
        where tenant_id = p_tenant_id
        returning * into v_changed;
        perform catalog.record_change(p_tenant_id, 'tenant.subscription.changed.v1',
            jsonb_build_object('from', told(v.subscription), 'to', told(v_next), 'modules', v_entitled -> 'modules',
                'limits', v_entitled -> 'limits', 'over', v_entitled -> 'over'),
            p_cause ->> 'id', p_cause ->> 'traceparent');
        perform settle_mails(v_changed, v_next, v_now);
    end if;
    perform look_after(v, v_next, v_live);
    if v.lifecycle <> 'gone'
        and (v.subscription is null or (v.subscription ->> 'access', v.subscription ->> 'reason')
             is distinct from (v_next ->> 'access', v_next ->> 'reason')) then
        perform want_access(p_tenant_id, v_next ->> 'access', v_next ->> 'reason');
    end if;
    perform put_timer('settle', p_tenant_id, (v_next ->> 'next_at')::timestamptz);
end
$$;

-- As before, of the subscription that counts: live_subscription.
create function billing.look_after(t billing.tenant, p_subscription jsonb, p_live billing.object) returns void
language plpgsql
as $$
declare
    v_unknown text := 'billing-unknown-price:' || t.tenant_id;
    v_duplicate text := 'billing-duplicate:' || t.tenant_id;
    v_open text[] := array(select cause from catalog.alert where cause in (v_unknown, v_duplicate) and resolved_at is null);
    v_plan text;
    v_all text[];
    v_price text;
begin
    if p_live.object_id is not null then
        select plan into v_plan from plan_of_prices(p_live.facts -> 'prices');
        select array_agg(o.object_id order by (o.facts ->> 'start_date')::bigint, o.object_id) into v_all
        from object o
        where o.tenant_id = t.tenant_id
          and o.kind = 'subscription'
          and not o.is_deleted
          and not o.is_terminal
          and o.facts ->> 'status' <> 'incomplete';
    end if;
    if p_live.object_id is not null and v_plan is null then
        perform catalog.raise_alert(v_unknown, t.tenant_id, 'a subscription has a price that is in no plan',
            format('%s has the price %s; until PLANS has it, the plan stays %s', p_live.object_id,
                coalesce(p_live.facts #>> '{prices,0,lookup_key}', p_live.facts #>> '{prices,0,price}', 'unknown'),
                coalesce(p_subscription ->> 'plan', 'none')));
    elsif v_unknown = any (v_open) then
        perform catalog.resolve_alert(v_unknown);
    end if;
    if cardinality(v_all) > 1 then
        perform catalog.raise_alert(v_duplicate, t.tenant_id, 'a tenant has more than one subscription, and pays for each',
            format('%s; to cancel and refund the later: tenantry billing end-duplicate %s', array_to_string(v_all, ', '),
                   t.tenant_id));
    elsif v_duplicate = any (v_open) then
        perform catalog.resolve_alert(v_duplicate);
    end if;
    if p_live.facts ->> 'schedule' is not null then
        for v_price in
            select distinct ph.value ->> 'price'
            from object o
            cross join lateral jsonb_array_elements(o.facts -> 'phases') ph
            where o.tenant_id = t.tenant_id
              and o.kind = 'subscription_schedule'
              and o.object_id = p_live.facts ->> 'schedule'
              and not exists (select from object p where p.kind = 'price' and p.object_id = ph.value ->> 'price')
        loop
            perform want_object('price', v_price, null, 'schedule');
        end loop;
    end if;
    perform end_if_over(t, p_live.object_id);
end
$$;
drop function billing.look_after(billing.tenant, jsonb);

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
