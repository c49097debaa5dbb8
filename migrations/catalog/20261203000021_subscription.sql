-- What a tenant's subscription is, and what follows from it: a pure function of what Stripe has told, of the trial, of overrides
-- and of the time. Whoever changes one of these calls settle; so does a timer when the time alone changes something.
-- migrate:up
set local check_function_bodies = off;

create function billing.grace_days() returns int language sql immutable as $$ select 7 $$;
create function billing.kept_days() returns int language sql immutable as $$ select 30 $$; -- after access ended, until the archive

-- The plan of a subscription's price: {plan, interval}. By lookup key, which a newer price may have taken over; then by what the
-- price says of itself.
create function billing.plan_of_prices(p_prices jsonb, out plan text, out period text)
language plpgsql stable
as $$
declare
    v jsonb;
begin
    for v in select value from jsonb_array_elements(p_prices) loop
        select p.plan_id into plan from price p where p.lookup_key = v ->> 'lookup_key';
        if plan is null then
            select p.plan_id into plan from plan p where p.plan_id = v ->> 'plan';
        end if;
        if plan is not null then
            period := v ->> 'interval';
            return;
        end if;
    end loop;
end
$$;

-- The one subscription that counts, of several that are alive; those that have ended are asked for by ended_subscription.
create function billing.live_subscription(p_tenant_id uuid) returns billing.object
language plpgsql stable
as $$
declare
    v object;
begin
    select kind, object_id, customer_id, claimed, tenant_id, seen, is_first, is_deleted, is_terminal, rank, digest, facts into v -- without its body
    from object o
    where o.tenant_id = p_tenant_id
      and o.kind = 'subscription'
      and not o.is_deleted
      and not o.is_terminal
      and o.facts ->> 'status' <> 'incomplete' -- its first payment has not come: it may never begin
    order by case o.facts ->> 'status' when 'active' then 0 when 'trialing' then 1 when 'past_due' then 2 when 'unpaid' then 3
                                       when 'paused' then 4 else 5 end,
             (o.facts ->> 'start_date')::bigint, o.object_id
    limit 1;
    return v;
end
$$;

create function billing.ended_subscription(p_tenant_id uuid) returns billing.object
language plpgsql stable
as $$
declare
    v object;
begin
    select kind, object_id, customer_id, claimed, tenant_id, seen, is_first, is_deleted, is_terminal, rank, digest, facts into v -- without its body
    from object o
    where o.tenant_id = p_tenant_id
      and o.kind = 'subscription'
      and (o.is_deleted or o.facts ->> 'status' = 'canceled')
    order by coalesce((o.facts ->> 'ended_at')::bigint, o.seen) desc, o.object_id
    limit 1;
    return v;
end
$$;

-- When the oldest invoice that is still open was first not paid. Null: there is none.
create function billing.failing_since(p_tenant_id uuid, p_subscription text) returns timestamptz
language plpgsql stable
as $$
begin
    return (
        select to_timestamp(coalesce(o.first_failure, (o.facts ->> 'finalized_at')::bigint, (o.facts ->> 'created')::bigint, o.seen))
        from object o
        where o.tenant_id = p_tenant_id
          and o.kind = 'invoice'
          and o.facts ->> 'status' in ('open', 'uncollectible')
          and o.facts ->> 'subscription' = p_subscription
          and o.facts ->> 'billing_reason' is distinct from 'subscription_update' -- of a change that was not taken
          and (o.first_failure is not null or (o.facts ->> 'attempt_count')::int > 0)
        order by (o.facts ->> 'created')::bigint, o.object_id
        limit 1);
end
$$;

-- What a tenant's subscription is at an instant of business time:
--   status   trial, active, past_due, suspended, cancelled or archived
--   reason   why, where that is not clear from the status: exempt, override, payment_failed, trial_ended, paused, unknown_status
--   plan, interval, period_end, trial_end, cancel_at, grace_until, archive_at, pending {plan, at}
--   access   full or none; access_until: when it ends if nothing changes; access_ended: since when it has
--   next_at  the next instant at which time alone changes something
create function billing.subscription_of(t billing.tenant, p_now timestamptz) returns jsonb
language plpgsql stable
as $$
declare
    v_live object := live_subscription(t.tenant_id);
    v_ended object;
    v_facts jsonb := v_live.facts;
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
    if v_live.object_id is null then
        v_ended := ended_subscription(t.tenant_id);
    end if;
    if v_live.object_id is not null then
        v_pending := planned_change(t.tenant_id, v_live, p_now);
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
                v_grace := coalesce(failing_since(t.tenant_id, v_live.object_id), to_timestamp(v_live.seen))
                           + grace_days() * interval '1 day';
                v_reason := 'payment_failed';
                v_status := case when p_now < v_grace then 'past_due' else 'suspended' end;
                v_access_until := v_grace;
            when v_facts ->> 'status' = 'paused' then
                v_status := 'suspended';
                v_reason := 'paused';
                v_access_until := to_timestamp(v_live.seen);
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
        'subscription_id', v_live.object_id,
        'pending', v_pending,
        'access', case when v_ended_at is null then 'full' else 'none' end,
        'access_until', case when v_ended_at is null then catalog.json_time(v_access_until) end,
        'access_ended', catalog.json_time(v_ended_at),
        'next_at', catalog.json_time((select min(at) from unnest(array[v_access_until, v_override_until]) at where at > p_now))));
end
$$;

-- Whether so many lose access at this time that something is more likely to be wrong: those who have lost it within ten minutes,
-- and those who are to lose it now, are over five, and over a twentieth of all who had it. p_ended: when this one's time was over;
-- until somebody has released those whose time was over by then.
create function billing.is_mass_suspension(p_tenant_id uuid, p_ended timestamptz, p_now timestamptz) returns boolean
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
    select count(*) into v_lost from tenant where suspended_at > clock_timestamp() - interval '10 minutes';
    select count(*) into v_losing
    from tenant
    where access = 'full'
      and access_until <= p_now
      and access_until > v_released
      and tenant_id <> p_tenant_id;
    return v_lost + v_losing + 1 > 5
        and (v_lost + v_losing + 1) * 20 > v_lost + (select count(*) from tenant where access = 'full');
end
$$;

-- When the tenant is to be settled again; null: not because of the time.
create function billing.settle_timer(p_tenant_id uuid, p_at timestamptz) returns void
language plpgsql
as $$
declare
    v_set timestamptz := (
        select due_at from catalog.timer where service = 'billing' and name = 'settle' and key = p_tenant_id::text);
begin
    if p_at is not null and v_set is distinct from p_at then
        perform set_timer('settle', p_tenant_id::text, p_at);
    elsif p_at is null and v_set is not null then
        perform drop_timer('settle', p_tenant_id::text);
    end if;
end
$$;

-- Brings what is known of the tenant's subscription up to date, and what follows from it: its access, what watchers are told, the
-- time at which it is to be asked again.
create function billing.settle(p_tenant_id uuid, p_cause jsonb) returns void
language plpgsql
as $$
declare
    v tenant;
    v_now timestamptz := catalog.business_now();
    v_next jsonb;
    v_entitled jsonb;
begin
    select * into v from tenant where tenant_id = p_tenant_id for update;
    v_next := subscription_of(v, v_now);
    v_entitled := entitlements_of(v, v_next);
    if v_next ->> 'access' = 'none' and v.access = 'full'
        and is_mass_suspension(p_tenant_id, (v_next ->> 'access_ended')::timestamptz, v_now) then
        if not v.held then -- the alert is one row for all
            update tenant set held = true, access_until = (v_next ->> 'access_ended')::timestamptz where tenant_id = p_tenant_id;
            perform catalog.raise_alert('billing-mass-suspension', null, 'many tenants would be suspended at once',
                'their time is over, but more than five and more than a twentieth of all at once may be a fault: see tenantry billing held; '
                'tenantry billing release suspends them');
        end if;
        perform set_timer('settle', p_tenant_id::text, v_now + interval '10 minutes');
        return;
    end if;
    if v_next - 'next_at' is distinct from v.subscription or v_entitled is distinct from v.entitled or v.held then
        update tenant
        set subscription = v_next - 'next_at', entitled = v_entitled, access = v_next ->> 'access', held = false,
            access_until = (v_next ->> 'access_until')::timestamptz,
            suspended_at = case when v_next ->> 'access' = 'none' then coalesce(suspended_at, clock_timestamp()) end
        where tenant_id = p_tenant_id;
        perform catalog.record_change(p_tenant_id, 'tenant.subscription.changed.v1',
            jsonb_build_object('from', told(v.subscription), 'to', told(v_next), 'modules', v_entitled -> 'modules',
                'limits', v_entitled -> 'limits', 'over', v_entitled -> 'over'),
            p_cause ->> 'id', p_cause ->> 'traceparent');
    end if;
    perform look_after(v, v_next);
    if v.lifecycle <> 'gone'
        and (v.subscription is null or (v.subscription ->> 'access', v.subscription ->> 'reason')
             is distinct from (v_next ->> 'access', v_next ->> 'reason')) then
        perform want_access(p_tenant_id, v_next ->> 'access', v_next ->> 'reason');
    end if;
    perform settle_timer(p_tenant_id, (v_next ->> 'next_at')::timestamptz);
end
$$;

-- What others are told of a subscription.
create function billing.told(p_subscription jsonb) returns jsonb
language sql immutable
as $$
    select case when p_subscription is not null then
        jsonb_build_object('status', p_subscription -> 'status', 'reason', p_subscription -> 'reason',
            'plan', p_subscription -> 'plan', 'interval', p_subscription -> 'interval',
            'period_end', p_subscription -> 'period_end', 'trial_end', p_subscription -> 'trial_end',
            'cancel_at', p_subscription -> 'cancel_at', 'grace_until', p_subscription -> 'grace_until',
            'archive_at', p_subscription -> 'archive_at', 'pending', p_subscription -> 'pending')
    end
$$;

-- Says whether the tenant's product may be used, as far as billing is concerned.
create function billing.want_access(p_tenant_id uuid, p_wanted text, p_reason text) returns void
language plpgsql
as $$
begin
    insert into catalog.access_wanted as a (tenant_id, source, wanted, reason)
    select p_tenant_id, 'billing', p_wanted, case when p_wanted = 'none' then coalesce(p_reason, 'cancelled') end
    where p_wanted = 'none'
       or exists (select from catalog.access_wanted where tenant_id = p_tenant_id and source = 'billing')
    on conflict (tenant_id, source) do update
        set wanted = excluded.wanted, reason = excluded.reason, version = a.version + 1, changed_at = clock_timestamp()
        where (a.wanted, a.reason) is distinct from (excluded.wanted, excluded.reason);
end
$$;

create function billing.timer_due(p_name text, p_key text, p_due_at timestamptz) returns void
language plpgsql
as $$
begin
    case p_name
        when 'settle' then perform settle(p_key::uuid, jsonb_build_object('id', null));
        when 'mails' then perform settle_mails(p_key::uuid);
        when 'archive' then perform decide_archive(p_key::uuid);
    end case;
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
