-- What is read of a tenant at once is settled once. Stripe tells one act in half a dozen events, one after another in the partition:
-- each of them had a transaction of its own, and all that follows from a subscription was found out each time.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find those of a service by the caller's search_path

-- What a service has left for the end of the messages that are taken together: here nothing. Which leaves something has a function of
-- its own.
create function durable.finish_batch() returns void
language plpgsql
as $$
begin
end
$$;

-- The two entrances end with it. What they did by themselves has another name; programs call the entrances.
alter function durable.take_batch rename to take_each;
create function durable.take_batch(p_messages jsonb) returns setof text
language plpgsql
as $$
begin
    return query select taken from durable.take_each(p_messages) taken;
    perform finish_batch();
end
$$;

alter function durable.take_parked rename to take_parked_event;
create function durable.take_parked(p_id bigint, p_data jsonb, p_code text, p_field text, p_detail text) returns void
language plpgsql
as $$
begin
    perform durable.take_parked_event(p_id, p_data, p_code, p_field, p_detail);
    perform finish_batch();
end
$$;

grant execute on function durable.finish_batch, durable.take_batch, durable.take_parked
    to tenantry_provisioner, tenantry_migrator, tenantry_billing, tenantry_service;

-- Tenants that are to be settled before the transaction ends, each with what is told as the cause: its last event. p_mails: its mails
-- are to be looked at even if nothing else changes.
create function billing.settle_later(p_tenant_id uuid, p_cause jsonb, p_mails boolean) returns void
language plpgsql
as $$
declare
    v_unsettled jsonb := coalesce(nullif(current_setting('billing.unsettled', true), '')::jsonb, '{}');
begin
    perform set_config('billing.unsettled',
        (v_unsettled || jsonb_build_object(p_tenant_id, jsonb_build_object(
            'id', p_cause -> 'id', 'traceparent', p_cause -> 'traceparent',
            'mails', p_mails or coalesce((v_unsettled #>> array[p_tenant_id::text, 'mails'])::boolean, false))))::text,
        true);
end
$$;

create function billing.finish_batch() returns void
language plpgsql
as $$
declare
    v_unsettled jsonb := nullif(current_setting('billing.unsettled', true), '')::jsonb;
    v_tenant text;
begin
    if v_unsettled is null then
        return;
    end if;
    perform set_config('billing.unsettled', '', true);
    for v_tenant in select jsonb_object_keys(v_unsettled) loop
        perform settle(v_tenant::uuid, v_unsettled -> v_tenant);
        if (v_unsettled #>> array[v_tenant, 'mails'])::boolean then
            perform settle_mails(v_tenant::uuid);
        end if;
    end loop;
end
$$;

-- As before, but who has taken the event sees to the mails.
create or replace function billing.note_action(p_event jsonb, p_tenant_id uuid) returns void
language sql
as $$
    update billing.object
    set action_since = least(action_since, (p_event ->> 'created')::bigint)
    where kind = 'invoice'
      and object_id = p_event #>> '{object,id}'
      and action_since is distinct from least(action_since, (p_event ->> 'created')::bigint)
$$;

-- One event, whatever came before it; its tenant is settled when the batch is finished. p_event is as stripe_event_read returns it.
create function billing.take_event(p_event jsonb, p_cause jsonb) returns void
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
    perform note_money(p_event, v_tenant);
    if v_tenant is not null then
        perform settle_later(v_tenant, p_cause, p_event ->> 'type' = 'invoice.payment_action_required');
    end if;
end
$$;

-- A batch of one.
create or replace function billing.apply_event(p_event jsonb, p_cause jsonb) returns void
language plpgsql
as $$
begin
    perform take_event(p_event, p_cause);
    perform finish_batch();
end
$$;

-- Keeps since when a tenant has no access. Who had it again meanwhile, and lost it before that was settled, has lost it anew: it has
-- another month, and other notices.
create or replace function billing.note_access() returns trigger
language plpgsql
as $$
declare
    v_ended timestamptz := (new.subscription ->> 'access_ended')::timestamptz;
begin
    if new.lifecycle <> 'live' then
        new.archive_held := false;
    end if;
    if new.access = 'full'
        or (v_ended > new.access_ended and exists (
            select
            from billing.object o
            where o.tenant_id = new.tenant_id
              and o.kind = 'subscription'
              and o.facts ->> 'status' not in ('incomplete', 'incomplete_expired')
              and to_timestamp((o.facts ->> 'start_date')::bigint) > new.access_ended)) then
        new.access_ended := null;
        new.archive_held := false;
        new.archive_released := false;
    end if;
    if new.access <> 'full' and new.access_ended is null then
        new.access_ended := coalesce(v_ended, catalog.business_now());
    end if;
    return new;
end
$$;

create or replace function billing.accept_event(p_event jsonb, p_data jsonb) returns void
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
        perform take_event(p_data, p_event);
    end if;
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
