-- An event of Stripe's took two milliseconds of the processor's time. What it is about is read once now, and told to whoever needs it:
-- the subscription that counts, and what the tenant's subscription is by that. Besides, what happens to the living is not held up by
-- tenants that are archived or gone, whose time is over as well.
-- migrate:up
set local check_function_bodies = off;

-- Functions of SQL whose bodies are "stable" are inlined if they say so, and are planned at each call if they claim to be "immutable".
alter function billing.told stable;
alter function billing.message_id stable;

-- As before, of the subscription that counts: live_subscription.
create function billing.subscription_of(t billing.tenant, p_now timestamptz, p_live billing.object) returns jsonb
language plpgsql stable
as $$
declare
    v_ended object;
    v_facts jsonb := p_live.facts;
    v_status text;
    v_reason text;
    v_plan text;
    v_interval text;
    v_access_until timestamptz;
    v_ended_at timestamptz;
    v_grace timestamptz;
    v_trial_end timestamptz;
    v_override_until timestamptz := (t.override ->> 'until')::timestamptz;
    v_overridden boolean := t.override is not null and (v_override_until is null or v_override_until > p_now);
    v_archive_at timestamptz;
    v_pending jsonb;
    s settings;
begin
    select * into s from settings;
    if not t.existing and t.ready_at is not null then
        v_trial_end := t.ready_at + s.trial_days * interval '1 day';
    end if;
    if p_live.object_id is null then
        v_ended := ended_subscription(t.tenant_id);
    end if;
    if p_live.object_id is not null then
        v_pending := planned_change(t.tenant_id, p_live, p_now);
        select plan, period into v_plan, v_interval from plan_of_prices(v_facts -> 'prices');
        if v_plan is null then -- a price that is not in the plans: what it was before holds
            v_plan := t.subscription ->> 'plan';
            v_interval := v_facts #>> '{prices,0,interval}';
        end if;
        case
            when v_facts ->> 'status' = 'active' then
                v_status := 'active';
            when v_facts ->> 'status' = 'trialing' then
                v_status := 'trial';
                v_trial_end := to_timestamp((v_facts ->> 'trial_end')::bigint);
            when v_facts ->> 'status' in ('past_due', 'unpaid') then
                v_grace := coalesce(failing_since(t.tenant_id, p_live.object_id), to_timestamp(p_live.seen))
                           + grace_days() * interval '1 day';
                v_reason := 'payment_failed';
                v_status := case when p_now < v_grace then 'past_due' else 'suspended' end;
                v_access_until := v_grace;
            when v_facts ->> 'status' = 'paused' then
                v_status := 'suspended';
                v_reason := 'paused';
                v_access_until := to_timestamp(p_live.seen);
            else
                v_status := 'active';
                v_reason := 'unknown_status';
        end case;
    elsif t.existing and v_ended.object_id is null then
        v_status := 'active';
        v_reason := 'exempt';
        v_trial_end := null;
    elsif not t.existing and (v_trial_end is null or p_now < v_trial_end) then
        v_status := 'trial';
        v_plan := s.trial_plan;
        v_access_until := v_trial_end;
    elsif v_ended.object_id is not null then
        v_status := 'cancelled';
        v_reason := case when v_ended.facts ->> 'cancel_reason' = 'payment_failed' then 'payment_failed' end;
        select plan, period into v_plan, v_interval from plan_of_prices(v_ended.facts -> 'prices');
        v_access_until := greatest(to_timestamp(coalesce((v_ended.facts ->> 'ended_at')::bigint, v_ended.seen)), v_trial_end);
    else
        v_status := 'suspended';
        v_reason := 'trial_ended';
        v_plan := s.trial_plan;
        v_access_until := v_trial_end;
    end if;
    if v_overridden then
        v_status := case when v_status in ('trial', 'suspended', 'cancelled') then 'active' else v_status end;
        v_reason := 'override';
        v_plan := coalesce(t.override ->> 'plan', v_plan);
        v_access_until := greatest(v_override_until, v_access_until);
        if v_override_until is null then
            v_access_until := null;
        end if;
    end if;
    if v_access_until <= p_now then
        v_ended_at := greatest(v_access_until, case when v_override_until <= p_now then v_override_until end);
        v_archive_at := v_ended_at + kept_days() * interval '1 day';
    end if;
    if t.lifecycle <> 'live' then
        v_status := 'archived';
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
        'status', v_status, 'reason', v_reason, 'plan', v_plan, 'interval', v_interval,
        'period_end', catalog.json_time(to_timestamp((v_facts ->> 'period_end')::bigint)),
        'trial_end', case when v_status = 'trial' or v_reason = 'trial_ended' then catalog.json_time(v_trial_end) end,
        'cancel_at', catalog.json_time(to_timestamp((v_facts ->> 'cancel_at')::bigint)),
        'grace_until', catalog.json_time(v_grace),
        'archive_at', catalog.json_time(v_archive_at),
        'subscription_id', p_live.object_id,
        'pending', v_pending,
        'access', case when v_ended_at is null then 'full' else 'none' end,
        'access_until', case when v_ended_at is null then catalog.json_time(v_access_until) end,
        'access_ended', catalog.json_time(v_ended_at),
        'next_at', catalog.json_time((select min(at) from unnest(array[v_access_until, v_override_until]) at where at > p_now))));
end
$$;

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

-- As before; "over" is asked for who has reported something.
create or replace function billing.entitlements_of(t billing.tenant, p_subscription jsonb) returns jsonb
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
        'limits', v_limits, 'over', case when t.usage is null then '[]' else over(v_limits, t.usage) end);
end
$$;

-- As before, for a subscription as subscription_of tells it.
create function billing.mails_due(t billing.tenant, p_now timestamptz, s jsonb)
returns table (kind text, step int, cause text, due_at timestamptz, until timestamptz)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    v_trial_end timestamptz := s ->> 'trial_end';
    v_failing timestamptz := (s ->> 'grace_until')::timestamptz - grace_days() * interval '1 day';
    v_archive_at timestamptz := s ->> 'archive_at';
    v_ended timestamptz := coalesce(t.access_ended, (s ->> 'access_ended')::timestamptz);
    v_invoice object;
begin
    if t.lifecycle <> 'live' then
        return;
    end if;
    if t.link_asked_at is not null then
        return query select 'billing_link', 0, catalog.json_time(t.link_asked_at), t.link_asked_at, t.link_asked_at + interval '1 hour';
    end if;
    if s ->> 'status' = 'trial' and v_trial_end is not null and not s ? 'subscription_id' then -- who has chosen needs none
        return query select 'trial_ending', 0, catalog.json_time(v_trial_end),
            greatest(v_trial_end - interval '2 days', t.ready_at), v_trial_end;
    end if;
    if s ->> 'status' = 'past_due' then
        v_invoice := failing_invoice(t.tenant_id, s ->> 'subscription_id');
        return query
        select 'payment_failed', x.day, coalesce(v_invoice.object_id, s ->> 'subscription_id'),
            v_failing + x.day * interval '1 day' + case x.day when 0 then interval '2 minutes' else '0' end,
            v_failing + x.next_day * interval '1 day'
        from (values (0, 3), (3, 6), (6, grace_days())) x (day, next_day)
        -- That the bank asks for its customer is told a moment later than that the payment failed, and makes the better mail.
        where x.day > 0
           or v_invoice.action_since is null;
    end if;
    return query
    select 'payment_action_required', 0, o.object_id, to_timestamp(o.action_since), to_timestamp(o.action_since) + interval '7 days'
    from object o
    where o.tenant_id = t.tenant_id
      and o.kind = 'invoice'
      and o.action_since is not null
      and o.facts ->> 'status' = 'open'
      and o.facts ->> 'subscription' = s ->> 'subscription_id'
      and o.facts ->> 'billing_reason' is distinct from 'subscription_create'; -- whoever subscribes is asked at once
    if t.access = 'none' and s ->> 'access' = 'none' then -- not who is held back from being suspended
        return query
        select x.kind, x.step, catalog.json_time(v_ended), x.due_at, x.until
        from (values ('suspended', 0, v_ended, v_archive_at - interval '7 days'),
                     ('archive_notice', 7, v_archive_at - interval '7 days', v_archive_at - interval '1 day'),
                     ('archive_notice', 1, v_archive_at - interval '1 day', 'infinity'::timestamptz)) x (kind, step, due_at, until)
        where x.kind = 'suspended'
           or not exists ( -- somebody has brought it back from this very archive
                select from catalog.lifecycle_wanted l
                where l.tenant_id = t.tenant_id and l.source = 'billing' and l.overruled = catalog.json_time(v_ended));
    end if;
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

create or replace function billing.want_payment(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v_live object;
    v_invoice object;
    v_first boolean;
begin
    if not exists (
        select
        from object o
        where o.tenant_id = p_tenant_id
          and o.kind = 'invoice'
          and o.facts ->> 'status' = 'open') then
        return; -- as nearly always
    end if;
    v_live := live_subscription(p_tenant_id);
    v_invoice := failing_invoice(p_tenant_id, v_live.object_id);
    v_first := not exists (select from payment where invoice_id = v_invoice.object_id);
    if v_invoice.object_id is null or v_invoice.facts ->> 'status' <> 'open'
        or (select lifecycle from tenant where tenant_id = p_tenant_id) <> 'live' then
        return;
    end if;
    insert into payment (invoice_id, payment_method, tenant_id, state)
    select v_invoice.object_id, c.card, p_tenant_id,
        case when v_first and coalesce((m.body ->> 'created')::bigint, 0) <= coalesce(v_invoice.first_failure, v_invoice.seen)
             then 'known' else 'wanted' end
    from (
        select coalesce(v_live.body #>> '{default_payment_method,id}', v_live.body ->> 'default_payment_method') as card
        union
        select o.facts ->> 'default_payment_method'
        from object o
        where o.kind = 'customer'
          and o.object_id = v_invoice.customer_id
    ) c
    left join object m on m.kind = 'payment_method' and m.object_id = c.card
    where c.card is not null
    on conflict do nothing;
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
