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

-- As before, and what was left for the end is done then.
create or replace function durable.take_batch(p_messages jsonb) returns setof text
language plpgsql
as $$
declare
    v_topic text := p_messages #>> '{0,message,topic}';
    v_partition int := (p_messages #>> '{0,message,partition}')::int;
    v_next bigint;
    v_stored bigint;
    v_offset bigint;
    v_previous bigint;
    v jsonb;
begin
    select next_offset into v_next
    from consumer_offset
    where topic = v_topic
      and partition = v_partition
    for update;
    for v in select value from jsonb_array_elements(p_messages) loop
        v_offset := (v #>> '{message,offset}')::bigint;
        v_previous := (v ->> 'previous')::bigint;
        if v_previous >= 0 and coalesce(v_next, -1) < v_previous then
            return next 'behind';
            continue;
        end if;
        if v_offset < v_previous and v_next = v_previous then
            perform catalog.raise_alert('log-began-anew:' || v_topic, null, 'a topic began anew',
                format('%s/%s stands at offset %s where %s was expected: topic or cluster was made again; messages that '
                       'were lost with it must be sent again', v_topic, v_partition, greatest(v_offset, 0), v_previous));
        elsif v_next > v_offset then
            return next 'seen';
            continue;
        end if;
        if (v #>> '{message,log_start}')::bigint > v_next then
            perform durable.raise_expired(v_topic, v_partition, v_next, (v #>> '{message,log_start}')::bigint);
        end if;
        v_next := v_offset + 1;
        if v_stored is null then -- before anything is done: another reader of this partition waits here
            insert into consumer_offset (topic, partition, next_offset)
            values (v_topic, v_partition, v_next)
            on conflict (topic, partition) do update
                set next_offset = excluded.next_offset;
            v_stored := v_next;
        end if;
        return next durable.take_one(v);
    end loop;
    if v_stored <> v_next then
        update consumer_offset
        set next_offset = v_next
        where topic = v_topic
          and partition = v_partition;
    end if;
    perform finish_batch();
end
$$;
-- As before, and what was left for the end is done then.
create or replace function durable.take_parked(p_id bigint, p_data jsonb, p_code text, p_field text, p_detail text) returns void
language plpgsql
as $$
declare
    v parked;
begin
    delete from parked
    where id = p_id
      and service = current_schema()
    returning * into v;
    if not found then
        return;
    end if;
    if p_code is not null then
        perform durable.refuse(v.event, null, split_part(v.event ->> 'type', '.', 2), p_code, p_field, p_detail);
    else
        perform accept_event(v.event, p_data);
        perform finish_batch();
    end if;
end
$$;

grant execute on function durable.finish_batch to tenantry_provisioner, tenantry_migrator, tenantry_billing, tenantry_service;

-- One event, whatever came before it. p_event is as stripe_event_read returns it. Returns the tenant that is to be settled, or null.
create function billing.take_event(p_event jsonb) returns uuid
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
        return null;
    end if;
    if jsonb_typeof(v_object) is distinct from 'object' then
        perform log_event(p_event, null, 'applied', 'it is about nothing that can be kept', null);
        return null;
    end if;
    if (p_event ->> 'is_thin')::boolean then
        perform want_object(v_object ->> 'kind', v_object ->> 'id', v_object ->> 'path', 'thin');
        perform log_event(p_event, null, 'thin', null, null);
        return null;
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
    return v_tenant;
end
$$;

create or replace function billing.apply_event(p_event jsonb, p_cause jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := take_event(p_event);
begin
    if v_tenant is not null then
        perform settle(v_tenant, p_cause);
    end if;
end
$$;

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
declare
    v_tenant uuid;
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
        v_tenant := take_event(p_data);
        if v_tenant is not null then
            perform settle_later(v_tenant, p_event, p_data ->> 'type' = 'invoice.payment_action_required');
        end if;
    end if;
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
