-- Mends of billing: who loses what when; money that comes late; what is sold.
-- migrate:up
set local check_function_bodies = off;

-- override_removed_at: business time; access that an override gave ended then, not when what is below it had ended.
alter table billing.tenant add column override_removed_at timestamptz;
-- As of a plan: in the file of the last process to start. Those who have bought at others keep their plan.
alter table billing.price
    add column is_offered boolean not null default true,
    add column amount bigint, -- as the file says, which is what Stripe takes: see tenantry stripe setup
    add column currency text;
-- One that was fetched and is wanted again is another wish: an answer to the first, come late, must not be taken for one to it.
alter table billing.wanted_object alter column version set default (extract(epoch from clock_timestamp()) * 1000000)::bigint;

create function billing.requests_most() returns int language sql immutable as $$ select 100 $$; -- of one tenant, that wait

-- Whether a later renewal was paid: then what was not paid before it does not count any more.
create function billing.paid_since(p_invoice billing.object) returns boolean
language plpgsql stable
as $$
begin
    return exists (
        select
        from object o
        where o.tenant_id = p_invoice.tenant_id
          and o.kind = 'invoice'
          and o.facts ->> 'status' = 'paid'
          and o.facts ->> 'subscription' = p_invoice.facts ->> 'subscription'
          and o.facts ->> 'billing_reason' in ('subscription_cycle', 'subscription_create')
          and (o.facts ->> 'created')::bigint > (p_invoice.facts ->> 'created')::bigint);
end
$$;

-- A subscription's invoices that are not paid, though their time has come: it was tried to collect them, or, where their customer pays
-- by invoice, they are to be paid until a day.
create function billing.owed_invoices(p_tenant_id uuid, p_subscription text) returns setof billing.object
language sql stable
as $$
    select *
    from object o
    where o.tenant_id = p_tenant_id
      and o.kind = 'invoice'
      and o.facts ->> 'status' in ('open', 'uncollectible')
      and o.facts ->> 'subscription' = p_subscription
      and (o.first_failure is not null or (o.facts ->> 'attempt_count')::int > 0 or o.body ->> 'due_date' is not null)
      and not paid_since(o)
$$;

create function billing.was_tried(p_invoice billing.object) returns boolean
language sql immutable
as $$
    select p_invoice.first_failure is not null or (p_invoice.facts ->> 'attempt_count')::int > 0
$$;

-- As before; but an invoice that nobody tries to collect, since its customer pays by invoice, fails when it is due; and if none
-- but that of a change was not paid, it is that. (Otherwise each event of the subscription would have begun another grace.)
create or replace function billing.failing_since(p_tenant_id uuid, p_subscription text) returns timestamptz
language plpgsql stable
as $$
begin
    return (
        select to_timestamp(coalesce(o.first_failure, (o.body ->> 'due_date')::bigint, (o.facts ->> 'finalized_at')::bigint,
                                     (o.facts ->> 'created')::bigint, o.seen))
        from owed_invoices(p_tenant_id, p_subscription) o
        order by o.facts ->> 'billing_reason' is not distinct from 'subscription_update', (o.facts ->> 'created')::bigint,
                 o.object_id
        limit 1);
end
$$;

-- As before, but for what was paid since.
create or replace function billing.failing_invoice(p_tenant_id uuid, p_subscription text) returns billing.object
language plpgsql stable
as $$
declare
    v object;
begin
    select * into v
    from owed_invoices(p_tenant_id, p_subscription) o
    where was_tried(o)
      and o.facts ->> 'billing_reason' is distinct from 'subscription_update'
    order by (o.facts ->> 'created')::bigint, o.object_id
    limit 1;
    return v;
end
$$;

-- When the first renewal that was never paid failed, of a subscription that has ended: access ended seven days later, though Stripe
-- tries for longer before it gives the subscription up.
create function billing.not_paid_since(p_tenant_id uuid, p_subscription text) returns timestamptz
language plpgsql stable
as $$
begin
    return (
        select to_timestamp(coalesce(o.first_failure, (o.facts ->> 'finalized_at')::bigint, (o.facts ->> 'created')::bigint, o.seen))
        from owed_invoices(p_tenant_id, p_subscription) o
        where was_tried(o)
          and o.facts ->> 'billing_reason' in ('subscription_cycle', 'subscription_create') -- a debit may fail days later
        order by (o.facts ->> 'created')::bigint, o.object_id
        limit 1);
end
$$;

-- As before, of the subscription that counts (live_subscription); but one that Stripe ended after the last attempt ended access when
-- its grace did; an override with an end ends no access that would go on without it; and one that is removed ended when it was removed.
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
        v_access_until := greatest(
            least(to_timestamp(coalesce((v_ended.facts ->> 'ended_at')::bigint, v_ended.seen)),
                  not_paid_since(t.tenant_id, v_ended.object_id) + grace_days() * interval '1 day'),
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
        v_access_until := case when v_override_until is not null and v_access_until is not null
                               then greatest(v_override_until, v_access_until) end;
    end if;
    if v_access_until <= p_now then
        v_ended_at := greatest(v_access_until, case when v_override_until <= p_now then v_override_until end,
                               case when t.override_removed_at <= p_now then t.override_removed_at end);
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
        'next_at', catalog.json_time((
            select min(at)
            from unnest(array[v_access_until, v_override_until, (v_pending ->> 'at')::timestamptz]) at
            where at > p_now))));
end
$$;

-- As before, and keeps when what it takes back has ended.
create or replace function billing.accept_override(t billing.tenant, p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_until timestamptz := (p_data ->> 'until')::timestamptz;
    v_override jsonb := p_data - 'tenant_id' - 'limits';
    v_removes boolean := coalesce((p_data ->> 'remove')::boolean, false);
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
    set override = case when not v_removes then v_override end,
        override_removed_at = case when v_removes and t.override is not null
                                    then greatest(least((t.override ->> 'until')::timestamptz, catalog.business_now()),
                                                  t.override_removed_at)
                                    else t.override_removed_at end
    where tenant_id = t.tenant_id;
    perform catalog.record_change(t.tenant_id, 'tenant.command.accepted.v1',
        jsonb_build_object('command', 'override', 'reason', p_data -> 'reason', 'source', p_event -> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform settle(t.tenant_id, p_event);
    perform finish(p_event, 'succeeded');
end
$$;

-- As before, but only of prices that are in the plans, and not if very many wait.
create or replace function billing.accept_request(t billing.tenant, p_kind text, p_event jsonb, p_data jsonb) returns void
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
          and period = p_data ->> 'interval'
          and is_offered;
        if v_price.lookup_key is null then
            perform refuse(p_event, t.tenant_id, p_kind, 'not_sold', 'interval',
                format('the plan %s is not sold by the %s', p_data ->> 'plan', p_data ->> 'interval'));
            return;
        end if;
    end if;
    if (select count(*) from request where tenant_id = t.tenant_id) >= requests_most() then
        perform refuse(p_event, t.tenant_id, p_kind, 'too_many_requests', null,
            format('%s requests of this tenant wait for Stripe: wait until they are done', requests_most()));
        return;
    end if;
    perform put_operation(p_event, t.tenant_id, p_kind, null);
    perform catalog.record_change(t.tenant_id, 'tenant.command.accepted.v1',
        jsonb_build_object('command', p_kind, 'reason', p_data -> 'reason', 'source', p_event -> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform ask_stripe(t.tenant_id, p_kind, p_event,
        jsonb_strip_nulls((p_data - 'tenant_id') || jsonb_build_object('lookup_key', v_price.lookup_key)));
end
$$;

-- As before; not for another mode than that of the subscriptions that are here; and says which prices are in the plans; another trial counts at once for those who are on it, or whose trial has ended.
create or replace function billing.configure(p_plans jsonb, p_livemode boolean) returns void
language plpgsql
as $$
declare
    v_plan jsonb;
    v_place int;
    v_trial settings := (select s from settings s);
begin
    if v_trial.livemode <> p_livemode and exists (
        select from object
        where kind = 'subscription' and not is_deleted and not is_terminal and tenant_id is not null) then
        raise exception 'this catalog has subscriptions of % mode, which would go on giving access: cancel them at Stripe, in that mode, '
            'or take another catalog', case when p_livemode then 'test' else 'live' end;
    end if;
    insert into settings as s (since, livemode, trial_plan, trial_days)
    values (clock_timestamp(), p_livemode, p_plans #>> '{trial,plan}', (p_plans #>> '{trial,days}')::int)
    on conflict (only_row) do update
        set livemode = excluded.livemode, trial_plan = excluded.trial_plan, trial_days = excluded.trial_days
        where (s.livemode, s.trial_plan, s.trial_days) is distinct from (excluded.livemode, excluded.trial_plan, excluded.trial_days);
    if v_trial.since is not null and (v_trial.trial_plan, v_trial.trial_days) is distinct from
        (p_plans #>> '{trial,plan}', (p_plans #>> '{trial,days}')::int) then
        perform set_timer('settle', tenant_id::text, catalog.business_now())
        from tenant
        where lifecycle = 'live'
          and (subscription ->> 'status' = 'trial' or subscription ->> 'reason' = 'trial_ended');
    end if;
    update plan set is_offered = false
    where is_offered
      and plan_id not in (select value ->> 'id' from jsonb_array_elements(p_plans -> 'plans'));
    update price set is_offered = false
    where is_offered
      and lookup_key not in (
          select i.value ->> 'lookup_key'
          from jsonb_array_elements(p_plans -> 'plans') p,
              jsonb_each(case when jsonb_typeof(p.value -> 'prices') = 'object' then p.value -> 'prices' else '{}' end) i);
    for v_plan, v_place in select value, ordinality from jsonb_array_elements(p_plans -> 'plans') with ordinality loop
        insert into plan as p (plan_id, place, name, modules, limits)
        values (v_plan ->> 'id', v_place, v_plan ->> 'name', v_plan -> 'modules', v_plan -> 'limits')
        on conflict (plan_id) do update
            set place = excluded.place, name = excluded.name, modules = excluded.modules, limits = excluded.limits, is_offered = true
            where (p.place, p.name, p.modules, p.limits, p.is_offered)
                is distinct from (excluded.place, excluded.name, excluded.modules, excluded.limits, true);
        insert into price as p (lookup_key, plan_id, period, amount, currency)
        select value ->> 'lookup_key', v_plan ->> 'id', key, (value ->> 'amount')::bigint, p_plans ->> 'currency'
        from jsonb_each(case when jsonb_typeof(v_plan -> 'prices') = 'object' then v_plan -> 'prices' else '{}' end)
        on conflict (lookup_key) do update
            set plan_id = excluded.plan_id, period = excluded.period, amount = excluded.amount, currency = excluded.currency,
                is_offered = true
            where (p.plan_id, p.period, p.amount, p.currency, p.is_offered)
                is distinct from (excluded.plan_id, excluded.period, excluded.amount, excluded.currency, true);
    end loop;
end
$$;

-- As before, but for prices that are not sold any more; and with what each costs.
create or replace view gateway.billing_page as
select r.tenant_id, r.slug,
    jsonb_build_object(
        'company', r.company, 'status', t.subscription -> 'status', 'reason', t.subscription -> 'reason',
        'plan', (select p.name from billing.plan p where p.plan_id = t.subscription ->> 'plan'),
        'until', (
            select to_char(coalesce(t.subscription ->> 'access_until', t.subscription ->> 'cancel_at',
                                    t.subscription ->> 'period_end')::timestamptz at time zone 'UTC', 'FMDD FMMonth YYYY')),
        'archive', to_char((t.subscription ->> 'archive_at')::timestamptz at time zone 'UTC', 'FMDD FMMonth YYYY'),
        'is_live', t.lifecycle = 'live',
        'has_subscription', t.subscription ? 'subscription_id',
        'is_customer', exists (select from billing.customer c where c.tenant_id = r.tenant_id),
        'plans', (
            select jsonb_agg(jsonb_build_object('id', p.plan_id, 'name', p.name, 'periods', x.periods, 'prices', x.prices)
                             order by p.place)
            from billing.plan p,
                lateral (select jsonb_agg(distinct period order by period) as periods,
                             jsonb_object_agg(period, billing.amount_text(amount, currency)) as prices
                         from billing.price
                         where plan_id = p.plan_id and is_offered) x
            where p.is_offered
              and x.periods is not null),
        'invoices', (
            select coalesce(jsonb_agg(i.item order by i.created desc), '[]')
            from (
                select (o.facts ->> 'created')::bigint as created,
                    jsonb_build_object(
                        'number', coalesce(o.facts ->> 'number', o.object_id), 'status', o.facts -> 'status',
                        'date', to_char(to_timestamp((o.facts ->> 'created')::bigint) at time zone 'UTC', 'FMDD FMMonth YYYY'),
                        'amount', billing.amount_text((o.facts ->> 'amount_due')::bigint, o.facts ->> 'currency')) as item
                from billing.object o
                where o.tenant_id = r.tenant_id
                  and o.kind = 'invoice'
                  and o.facts ->> 'status' <> 'draft'
                order by 1 desc
                limit 12) i)) as item
from gateway.tenant_row r
join billing.tenant t using (tenant_id)
where t.lifecycle <> 'gone';

-- As before. p_seen 0: Stripe has repeated what it said at another time, nobody knows when. That makes an object known that is not;
-- how it is now is asked.
create or replace function billing.keep_answers(p_saga_id uuid, p_fence bigint, p_objects jsonb, p_seen bigint) returns void
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
        select a.owner, a.outcome into v_owner, v_outcome
        from apply_object(v_object, case when p_seen > 0 then p_seen else coalesce((v_object ->> 'created')::bigint, 1) end, false) a;
        if p_seen = 0 then
            perform want_object(v_object ->> 'kind', v_object ->> 'id', null, 'replayed');
        elsif v_outcome = 'tie' then
            perform put_object(v_object, p_seen, false, v_owner);
        end if;
    end loop;
    perform settle(v.tenant_id, jsonb_build_object('id', v.caused_by, 'traceparent', v.traceparent));
end
$$;

-- As before, for a subscription as subscription_of tells it; but who pays by invoice is told each time, not once in the life of a subscription.
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
        select 'payment_failed', x.day, coalesce(v_invoice.object_id, (s ->> 'subscription_id') || ' ' || (s ->> 'grace_until')),
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

-- As before; but an answer that is older than the events of one second, since Stripe's clocks differ, does not decide between them.
create or replace function billing.fetched(p_kind text, p_object_id text, p_version bigint, p_object jsonb, p_seen bigint) returns void
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
    if v_outcome = 'stale' and exists (
        select from object
        where kind = p_kind and object_id = p_object_id and seen between p_seen + 1 and p_seen + 60
          and not is_deleted and not is_terminal) then
        update wanted_object
        set taken_until = null, due_at = clock_timestamp() + interval '2 seconds'
        where kind = p_kind and object_id = p_object_id and why = 'tie' and attempts < 5;
        if found then
            return;
        end if;
    end if;
    update wanted_object set taken_until = null, attempts = 0, error = null where kind = p_kind and object_id = p_object_id;
    delete from wanted_object where kind = p_kind and object_id = p_object_id and version = p_version;
    if v_tenant is not null then
        perform settle(v_tenant, v_cause);
    end if;
    if p_kind = 'price' then -- those who are to have it: what it is of is known now
        perform settle(s.tenant_id, v_cause)
        from (
            select distinct o.tenant_id
            from object o
            cross join lateral jsonb_array_elements(o.facts -> 'phases') ph
            where o.kind = 'subscription_schedule'
              and o.tenant_id is not null
              and ph.value ->> 'price' = p_object_id) s;
    end if;
end
$$;

-- As before; and if the clock goes back, those who have lost access by a leap are looked at again: nothing else would.
create or replace function billing.watch(p_first boolean) returns void
language plpgsql
as $$
declare
    v watched;
    v_now timestamptz := clock_timestamp();
    v_until timestamptz := catalog.business_now();
begin
    select * into v from watched for update skip locked;
    if not found or (not p_first and v_now - v.at < interval '20 seconds' and v_until - v.until < interval '1 minute'
                     and v_until >= v.until) then
        return;
    end if;
    if v_until < v.until - interval '1 minute' then
        perform set_timer('settle', tenant_id::text, v_until)
        from tenant
        where access = 'none'
          and lifecycle = 'live'
          and access_ended > v_until;
    end if;
    update watched
    set at = v_now, until = v_until,
        total = total + case when p_first or v_now - v.at > interval '2 minutes' or v_until < v.until then interval '0'
                             else v_until - v.until end;
end
$$;

-- Without settings each event would be of another mode: it waits.
create or replace function billing.reason_to_quarantine(p_event jsonb) returns text
language plpgsql stable
as $$
begin
    if not exists (select from settings) then
        raise exception 'billing has not been told the plans and its mode yet' using errcode = 'object_in_use';
    end if;
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

-- As before; and says if the event was set aside once more: for the same reason as before, or since it is refused.
create or replace function catalog.replay_stripe_event(p_number bigint, p_by text) returns text
language plpgsql security definer
set search_path = billing, durable, catalog, pg_temp
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
    begin
        perform apply_event(v.kept, jsonb_build_object('id', v.event_id));
    exception
        when data_exception or integrity_constraint_violation or raise_exception then
            perform log_event(v.kept, null, 'quarantined', 'it was refused: ' || sqlerrm, v.kept);
    end;
    perform catalog.record_deed(coalesce(v.tenant_id::text, v.event_id), 'stripe_event_replayed', p_number, v.event_id, null, p_by);
    if (select outcome from event where number = p_number) = 'quarantined' then
        return 'set_aside_again';
    end if;
    return 'replayed';
end
$$;

-- As before, by the same invoice that its grace goes by.
create or replace function billing.because(t billing.tenant, s jsonb) returns jsonb
language plpgsql stable
as $$
declare
    v_subscription text := coalesce(s ->> 'subscription_id', (ended_subscription(t.tenant_id)).object_id);
    v_invoice text;
    v_event event;
begin
    if s ->> 'reason' = 'payment_failed' then
        v_invoice := (failing_invoice(t.tenant_id, v_subscription)).object_id;
    end if;
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

-- As before; but what is wrong with one tenant does not keep the others from their trials.
create or replace function billing.take_news(p_limit int, p_existing_trial boolean) returns int
language plpgsql
as $$
declare
    v record;
    v_since timestamptz := (select since from settings);
    v_count int := 0;
    v_before text;
begin
    if v_since is null then
        return 0;
    end if;
    for v in
        delete from tenant_news n
        using (select x.tenant_id from tenant_news x where x.at <= clock_timestamp() order by x.at limit p_limit
               for update skip locked) due,
            provisioner.tenant_life l
        where n.tenant_id = due.tenant_id
          and l.tenant_id = n.tenant_id
        returning n.tenant_id, n.ready_at, l.created_at < v_since as existing, l.lifecycle, l.state
    loop
        v_count := v_count + 1;
        begin
            perform lock_arrival(v.tenant_id);
            v_before := (select lifecycle from tenant where tenant_id = v.tenant_id);
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
            if v.state = 'archived' and v_before <> 'archived' and archived_by_billing(v.tenant_id)
                and exists (select from catalog.lifecycle_wanted
                            where tenant_id = v.tenant_id and source = 'billing' and wanted = 'live') then
                perform tell_paid_archived(v.tenant_id, 'it has paid while it was being archived; its subscription is ended at Stripe');
            end if;
            perform catalog.resolve_alert('billing-news:' || v.tenant_id)
            where exists (select from catalog.alert where cause = 'billing-news:' || v.tenant_id and resolved_at is null);
        exception
            when data_exception or integrity_constraint_violation or raise_exception then
                insert into tenant_news as n (tenant_id, ready_at, at)
                values (v.tenant_id, v.ready_at, clock_timestamp() + interval '1 minute')
                on conflict (tenant_id) do update set ready_at = coalesce(excluded.ready_at, n.ready_at), at = excluded.at;
                perform catalog.raise_alert('billing-news:' || v.tenant_id, v.tenant_id, 'billing cannot take what has become of a tenant',
                    format('%s. Its trial does not begin, nor does what follows from an archive: tenantry billing events --tenant %s shows '
                           'what Stripe has told of it; it is tried again each minute', sqlerrm, v.tenant_id));
        end;
    end loop;
    return v_count;
end
$$;

-- As before; but not an invoice of a subscription that has ended meanwhile.
create or replace function billing.take_payments(p_limit int, p_lease_ms bigint, p_per_second float8)
returns table (invoice_id text, payment_method text, attempts int)
language plpgsql
as $$
#variable_conflict use_column
declare
    v payment;
    v_wait bigint;
begin
    for v in
        select *
        from payment
        where state = 'wanted'
          and next_at <= clock_timestamp()
          and (taken_until is null or taken_until < clock_timestamp())
        order by next_at
        limit p_limit
        for update skip locked
    loop
        if not exists (
            select
            from object o
            join tenant t using (tenant_id)
            join object s on s.kind = 'subscription' and s.object_id = o.facts ->> 'subscription'
            where o.kind = 'invoice'
              and o.object_id = v.invoice_id
              and o.facts ->> 'status' = 'open'
              and not s.is_terminal
              and not s.is_deleted
              and t.lifecycle = 'live') then
            update payment set state = 'void' where invoice_id = v.invoice_id and payment_method = v.payment_method;
            continue;
        end if;
        if not v.has_turn then
            select t.wait_ms into v_wait from catalog.take_token('stripe:calls', p_per_second / 2, p_per_second / 2) t;
            if v_wait > 50 then
                update payment
                set has_turn = true, next_at = clock_timestamp() + v_wait * interval '1 ms'
                where invoice_id = v.invoice_id and payment_method = v.payment_method;
                continue;
            end if;
        end if;
        update payment
        set has_turn = false, attempts = attempts + 1, taken_until = clock_timestamp() + p_lease_ms * interval '1 ms'
        where invoice_id = v.invoice_id and payment_method = v.payment_method;
        return query select v.invoice_id, v.payment_method, v.attempts + 1;
    end loop;
end
$$;

-- As before; and what Stripe was asked for many times in vain.
create or replace function billing.current_faults(p_until bigint)
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
    union all
    select 'billing-unanswered:' || w.object_id, null, 'Stripe does not say how an object is',
        format('%s %s was asked for %s times: %s. What is known of it may be old', w.kind, w.object_id, w.attempts, w.error)
    from wanted_object w
    where w.attempts >= 10
      and w.error is not null
$$;

-- As before.
create or replace function billing.look_for_faults(p_until bigint) returns void
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
    from unnest(array['orphan', 'alive', 'unanswered']) k;
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

-- Money that comes late.

-- An archive that nobody but billing wants, or has wanted until it was paid for.
create function billing.archived_by_billing(p_tenant_id uuid) returns boolean
language sql stable
as $$
    select exists (select from catalog.lifecycle_wanted
                   where tenant_id = p_tenant_id and source = 'billing' and (wanted = 'archived' or reason = 'paid'))
       and not exists (select from catalog.lifecycle_wanted
                       where tenant_id = p_tenant_id and source = 'operator' and wanted <> 'live')
$$;

-- Its subscription ends at Stripe whatever comes: money must not go on being taken for what is archived.
create function billing.tell_paid_archived(p_tenant_id uuid, p_what text) returns void
language plpgsql
as $$
begin
    perform catalog.raise_alert('billing-paid-archived:' || p_tenant_id, p_tenant_id, 'an archived tenant has paid',
        format('%s. Either tenantry archive restore %s, and tenantry billing override %2$s gives it what it paid '
               'for until it has chosen a plan again; or refund the payment at Stripe', p_what, p_tenant_id));
end
$$;

create or replace function billing.take_archive_back(t billing.tenant) returns void
language plpgsql
as $$
begin
    if not exists (
        select from catalog.lifecycle_wanted where tenant_id = t.tenant_id and source = 'billing' and wanted = 'archived') then
        return;
    end if;
    perform catalog.want_lifecycle(t.tenant_id, 'live', 'paid', null);
    if (select state from provisioner.tenant_life where tenant_id = t.tenant_id) = 'archived' then
        perform tell_paid_archived(t.tenant_id, 'it has a subscription again after it was archived, which is ended at Stripe');
    end if;
end
$$;

-- An invoice from before the end of its subscription that was paid after it gives nothing: Stripe does not take an end back.
create function billing.note_money_after_end(p_tenant_id uuid, p_subscription text) returns void
language plpgsql
as $$
declare
    t tenant;
    v_invoice text;
begin
    select i.object_id into v_invoice
    from object s, object i
    where s.kind = 'subscription'
      and s.object_id = p_subscription
      and s.tenant_id = p_tenant_id
      and (s.is_deleted or s.is_terminal)
      and i.tenant_id = p_tenant_id
      and i.kind = 'invoice'
      and i.facts ->> 'subscription' = p_subscription
      and i.facts ->> 'status' = 'paid'
      and (i.facts ->> 'amount_paid')::bigint > 0
      and (i.facts ->> 'created')::bigint < (s.facts ->> 'ended_at')::bigint
      and (i.facts ->> 'paid_at')::bigint > (s.facts ->> 'ended_at')::bigint
    order by i.seen desc
    limit 1;
    if v_invoice is null then
        return;
    end if;
    select * into t from tenant where tenant_id = p_tenant_id;
    if subscription_of(t, catalog.business_now()) ->> 'access' = 'none' then
        perform catalog.raise_alert('billing-late-money:' || p_tenant_id, p_tenant_id,
            'a tenant has paid for a subscription that had ended',
            format('the invoice %s was paid when %s had ended already, and the tenant stays suspended: tenantry billing override %s gives '
                   'it what it paid for until it has chosen a plan again; or refund the invoice at Stripe', v_invoice, p_subscription,
                   p_tenant_id));
    end if;
end
$$;

create or replace function billing.note_late_money() returns trigger
language plpgsql
set search_path = billing, durable, catalog, pg_temp
as $$
declare
    v_lifecycle text := (select lifecycle from tenant where tenant_id = new.tenant_id);
begin
    if v_lifecycle = 'archived' and archived_by_billing(new.tenant_id) then
        perform tell_paid_archived(new.tenant_id, format('the invoice %s was paid after it was archived', new.object_id));
    elsif v_lifecycle <> 'live' then
        perform catalog.raise_alert('billing-late-money:' || new.tenant_id, new.tenant_id,
            'a tenant that is archived or gone has paid',
            format('the invoice %s was paid: refund it at Stripe', new.object_id));
    elsif v_lifecycle = 'live' then
        perform note_money_after_end(new.tenant_id, new.facts ->> 'subscription');
    end if;
    return null;
end
$$;

-- Stripe may tell of the payment first.
create function billing.note_end() returns trigger
language plpgsql
set search_path = billing, durable, catalog, pg_temp
as $$
begin
    perform note_money_after_end(new.tenant_id, new.object_id);
    return null;
end
$$;
create trigger note_end after insert or update on billing.object for each row
    when (new.kind = 'subscription' and new.tenant_id is not null and (new.is_deleted or new.is_terminal))
    execute function billing.note_end();

-- What was given back, and what is disputed, whatever told it: an event about it, one that carries nothing, a comparison.
create function billing.note_money_back() returns trigger
language plpgsql
set search_path = billing, durable, catalog, pg_temp
as $$
begin
    if new.kind = 'dispute' and new.tenant_id is null and new.facts ->> 'charge' is not null
        and not exists (select from object where kind = 'charge' and object_id = new.facts ->> 'charge') then
        perform want_object('charge', new.facts ->> 'charge', null, 'dispute');
    end if;
    perform note_money(jsonb_build_object(
        'type', case new.kind when 'charge' then 'charge.refunded' else 'charge.dispute.created' end,
        'object', jsonb_build_object('id', new.object_id, 'facts', new.facts)), new.tenant_id);
    return null;
end
$$;
create trigger money_back_first after insert on billing.object for each row
    when ((new.kind = 'charge' and new.facts -> 'amount_refunded' > '0') or new.kind = 'dispute')
    execute function billing.note_money_back();
create trigger money_back after update on billing.object for each row
    when (new.kind = 'charge' and new.facts -> 'amount_refunded' > '0'
        and new.facts -> 'amount_refunded' is distinct from old.facts -> 'amount_refunded')
    execute function billing.note_money_back();

-- A dispute names a charge and nobody; charges are not told of until money goes back. So it is asked for, and then says whose it is.
create function billing.name_dispute() returns trigger
language plpgsql
set search_path = billing, durable, catalog, pg_temp
as $$
declare
    v object;
begin
    for v in
        update object
        set tenant_id = new.tenant_id
        where kind = 'dispute'
          and tenant_id is null
          and facts ->> 'charge' = new.object_id
        returning *
    loop
        if exists (select from catalog.alert where cause = 'billing-dispute:' || v.object_id and resolved_at is null) then
            perform catalog.resolve_alert('billing-dispute:' || v.object_id);
            perform note_money(jsonb_build_object('type', 'charge.dispute.created',
                'object', jsonb_build_object('id', v.object_id, 'facts', v.facts)), v.tenant_id);
        end if;
    end loop;
    return null;
end
$$;
create trigger name_dispute after insert on billing.object for each row
    when (new.kind = 'charge' and new.tenant_id is not null)
    execute function billing.name_dispute();

-- Those for whom other rules hold now.
insert into catalog.timer (service, name, key, due_at)
select 'billing', 'settle', tenant_id::text, catalog.business_now()
from billing.tenant
where lifecycle = 'live'
  and (override is not null or subscription ->> 'status' in ('past_due', 'suspended', 'cancelled'))
on conflict (service, name, key) do update
    set due_at = least(timer.due_at, excluded.due_at);

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
