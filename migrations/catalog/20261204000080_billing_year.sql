-- What a year of the clock with random customers has shown.
-- migrate:up
set local check_function_bodies = off;

-- What a tenant's subscription is at an instant of business time:
--   status   trial, active, past_due, suspended, cancelled or archived
--   reason   why, where that is not clear from the status: exempt, override, payment_failed, trial_ended, paused, unknown_status
--   plan, interval, period_end, trial_end, cancel_at, grace_until, archive_at, pending {plan, at}
--   access   full or none; access_until: when it ends if nothing changes; access_ended: since when it has
--   next_at  the next instant at which time alone changes something
create or replace function billing.subscription_of(t billing.tenant, p_now timestamptz) returns jsonb
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
        -- Who was suspended because an invoice was not paid stays so when Stripe gives that up and ends the subscription, a week later.
        v_access_until := greatest(
            least(to_timestamp(coalesce((v_ended.facts ->> 'ended_at')::bigint, v_ended.seen)),
                  failing_since(t.tenant_id, v_ended.object_id) + grace_days() * interval '1 day'),
            v_trial_end);
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

insert into catalog.timer (service, name, key, due_at)
select 'billing', 'settle', tenant_id::text, catalog.business_now()
from billing.tenant
where access = 'none'
  and lifecycle = 'live'
on conflict (service, name, key) do update
    set due_at = least(timer.due_at, excluded.due_at);

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
