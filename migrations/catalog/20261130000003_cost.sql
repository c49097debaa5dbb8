-- What an event costs: PostgreSQL's work for a command is halved.
-- migrate:up
set local check_function_bodies = off;

-- An operation is found by its id. With "state = 'accepted'" beside that, the planner takes the index of pages of a state, for
-- few are accepted; but that has an entry for every operation that was accepted lately and is no more, and each lookup read
-- them all. `|| ''` keeps it away from there.
create or replace function durable.refuse(
    p_event jsonb,
    p_tenant_id uuid,
    p_kind text,
    p_code text,
    p_field text,
    p_detail text,
    p_more jsonb default '{}'
) returns void
language plpgsql
as $$
begin
    perform put_operation(p_event, p_tenant_id, p_kind, null);
    update catalog.operation
    set state = 'rejected', code = p_code, field = p_field, detail = p_detail, result = p_more,
        finished_at = clock_timestamp()
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = current_schema()
      and source = coalesce(p_event ->> 'source', '')
      and state || '' = 'accepted';
    perform catalog.record_rejection(p_event, p_code, p_field, p_detail, p_more);
end
$$;

create or replace function provisioner.park_command(p_event jsonb, p_data jsonb, p_kind text) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
begin
    insert into parked (service, tenant_id, reason, event, data)
    values ('provisioner', v_tenant, 'tenant_unknown', p_event, p_data);
    perform put_operation(p_event, v_tenant, p_kind, null);
    update catalog.operation
    set code = 'parked', detail = 'no tenant of this id has signed up: the command waits for its signup, 30 days at most'
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = 'provisioner'
      and source = coalesce(p_event ->> 'source', '')
      and state || '' = 'accepted';
end
$$;

-- Of a tenant, those under way: by an index that pages do not share.
create index operation_under_way on catalog.operation (tenant_id, service) where finished_at is null;
drop index catalog.operation_open;

-- Locked while they are looked at, they stay accepted.
create or replace function provisioner.settle_operations(p_tenant_id uuid) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v tenant;
    v_reached boolean;
    v_settled boolean; -- nobody is about to open or close it
    v_operation record;
begin
    select * into v from tenant where tenant_id = p_tenant_id;
    v_settled := v.state = 'ready' and v.access_applied = catalog.wanted_access(p_tenant_id) and not exists (
        select from catalog.tenant_claim
        where tenant_id = p_tenant_id
          and kind = 'access');
    for v_operation in
        select operation_id, kind, target
        from catalog.operation
        where tenant_id = p_tenant_id
          and service = 'provisioner'
          and finished_at is null
        for update
    loop
        v_reached := case v_operation.kind
            when 'signup' then v.state = 'ready'
            when 'suspend' then v_settled
            when 'resume' then v_settled
            when 'archive' then v.state = 'archived'
            when 'deprovision' then v.state = 'deprovisioned'
            when 'rotate_credentials' then v.rotation_applied >= v_operation.target
            when 'backup' then v.backup_done >= v_operation.target
            when 'restore' then exists (
                select from restore
                where tenant_id = p_tenant_id
                  and number = v_operation.target
                  and outcome = 'done')
            when 'resend_invite' then v.invite_sent >= v_operation.target
            when 'invite_link' then v.link_made >= v_operation.target
            when 'retry' then v.state in ('ready', 'archived', 'deprovisioned')
                and v.retry_done >= coalesce(v_operation.target, 0)
            else false
        end;
        if v_reached or v.state = 'deprovisioned'
            or (v.state = 'archived' and v_operation.kind not in ('deprovision', 'restore')) then
            update catalog.operation
            set state = case
                    when kind in ('suspend', 'resume') and target < (
                        select version from catalog.access_wanted
                        where tenant_id = p_tenant_id and source = 'operator') then 'superseded'
                    when v_reached then 'succeeded'
                    else 'superseded'
                end,
                finished_at = clock_timestamp()
            where operation_id = v_operation.operation_id;
        end if;
    end loop;
end
$$;

-- As it was, but for what it asked twice.
create or replace function provisioner.accept_command(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_kind text := split_part(p_event ->> 'type', '.', 2);
    v tenant;
    v_target bigint;
    v_refusal record;
begin
    select * into v from tenant where tenant_id = v_tenant for update;
    if not found then
        -- A signup that is being taken now must see what we park, or we must see its tenant.
        perform lock_name('tenant', v_tenant::text);
        select * into v from tenant where tenant_id = v_tenant for update;
    end if;
    if not found then
        perform park_command(p_event, p_data, v_kind);
        return;
    end if;
    if v.state = 'deprovisioned' or (v.lifecycle_wanted = 'gone' and v_kind not in ('deprovision', 'retry')) then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_gone', null, 'this tenant is deprovisioned');
        return;
    end if;
    if v.state = 'archived' and v_kind not in ('deprovision', 'restore') then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_archived', null, 'this tenant is archived');
        return;
    end if;
    if v_kind = 'deprovision' and p_data ->> 'confirm' is distinct from v.slug then
        perform refuse(p_event, v_tenant, v_kind, 'not_confirmed', 'confirm',
            'deletion is protected: confirm must be the tenant''s subdomain');
        return;
    end if;
    if v_kind = 'restore' then
        select * into v_refusal from refusal_of_restore(v, p_data);
        if v_refusal.code is not null then
            perform refuse(p_event, v_tenant, v_kind, v_refusal.code, v_refusal.field, v_refusal.detail);
            return;
        end if;
    end if;

    update tenant
    set caused_by = p_event ->> 'id',
        traceparent = p_event ->> 'traceparent',
        lifecycle_wanted = case v_kind
            when 'archive' then 'archived'
            when 'deprovision' then 'gone'
            else lifecycle_wanted end,
        rotation_wanted = rotation_wanted + (v_kind = 'rotate_credentials')::int,
        backup_wanted = backup_wanted + (v_kind = 'backup')::int,
        restore_wanted = restore_wanted + (v_kind = 'restore')::int,
        invite_wanted = invite_wanted + (v_kind = 'resend_invite')::int,
        retry_wanted = retry_wanted + (v_kind = 'retry')::int
    where tenant_id = v_tenant
    returning * into v;
    case v_kind
        when 'suspend' then
            v_target := want_access(v_tenant, 'none', p_data ->> 'reason');
        when 'resume' then
            v_target := want_access(v_tenant, 'full', p_data ->> 'reason');
        when 'archive' then
            null;
        when 'deprovision' then
            update saga
            set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
            where tenant_id = v_tenant
              and status || '' = 'running';
        when 'rotate_credentials' then
            v_target := v.rotation_wanted;
        when 'backup' then
            v_target := v.backup_wanted;
        when 'restore' then
            v_target := v.restore_wanted;
            perform put_restore(v, p_data ->> 'mode', find_backup(v_tenant, p_data ->> 'backup'), false);
        when 'resend_invite' then
            v_target := v.invite_wanted;
        when 'invite_link' then
            v_target := want_link(v_tenant);
        when 'retry' then
            v_target := v.retry_wanted;
        else
            raise exception 'command % is known to the contract and not to the catalog', v_kind using errcode = 'TN500';
    end case;
    perform put_operation(p_event, v_tenant, v_kind, v_target);
    perform catalog.record_change(
        v_tenant, 'tenant.command.accepted.v1',
        jsonb_build_object('command', v_kind, 'reason', p_data ->> 'reason', 'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform wake(v_tenant); -- which has others give way
    perform settle_operations(v_tenant);
end
$$;

-- The same with sagas: what is looked up by id, or of one tenant, is not sought among all that run.
create or replace function durable.saga_advance(
    p_saga_id uuid,
    p_fence bigint,
    p_from text,
    p_to text,
    p_status text,
    p_progress int,
    p_data jsonb,
    p_error jsonb,
    p_lease_ms bigint,
    p_background boolean
) returns boolean
language plpgsql
as $$
declare
    v saga;
begin
    update saga
    set step = p_to,
        status = p_status,
        progress = p_progress,
        data = p_data,
        error = p_error,
        held_for = null,
        attempt = 0,
        crashes = 0,
        background = p_background and not cancel_wanted,
        step_since = catalog.business_now(),
        lease_until = clock_timestamp() + p_lease_ms * interval '1 ms'
    where saga_id = p_saga_id
      and fence = p_fence
      and step = p_from
      and status || '' in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    perform catalog.record_change(
        v.tenant_id, 'tenant.activity.progressed.v1',
        jsonb_build_object('activity', v.kind, 'step', v.step, 'status', v.status, 'progress', v.progress,
                           'error', v.error),
        v.caused_by, v.traceparent);
    return v.cancel_wanted;
end
$$;

create or replace function durable.saga_park(
    p_saga_id uuid,
    p_fence bigint,
    p_data jsonb,
    p_delay_ms bigint,
    p_failed boolean,
    p_error jsonb,
    p_cancel_known boolean -- else it was asked for while the worker had the saga in hand, which must hear of it soon
) returns void
language plpgsql
as $$
declare
    v saga;
    v_known text;
begin
    select error ->> 'code' into v_known
    from saga
    where saga_id = p_saga_id;

    update saga
    set owner = null,
        lease_until = null,
        data = p_data,
        attempt = attempt + p_failed::int,
        next_at = clock_timestamp()
            + case when cancel_wanted and not p_cancel_known then 0 else p_delay_ms end * interval '1 ms',
        error = coalesce(p_error, error),
        held_for = null
    where saga_id = p_saga_id
      and fence = p_fence
      and status || '' in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    if p_error is not null and p_error ->> 'code' is distinct from v_known then
        perform catalog.record_change(
            v.tenant_id, 'tenant.activity.delayed.v1',
            jsonb_build_object('activity', v.kind, 'step', v.step, 'error', p_error),
            v.caused_by, v.traceparent);
    end if;
end
$$;

create or replace function durable.saga_end(
    p_saga_id uuid,
    p_fence bigint,
    p_from text,
    p_status text,
    p_data jsonb,
    p_error jsonb
) returns void
language plpgsql
as $$
declare
    v saga;
begin
    perform lock_tenant((select tenant_id from saga where saga_id = p_saga_id)); -- first, as commands do
    update saga
    set status = p_status,
        data = p_data,
        error = p_error,
        held_for = null,
        progress = case when p_status = 'done' then 100 else progress end,
        owner = null,
        lease_until = null,
        finished_at = clock_timestamp()
    where saga_id = p_saga_id
      and fence = p_fence
      and step = p_from
      and status || '' in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    perform catalog.claim_release(v.tenant_id, v.saga_id);
    perform saga_ended(v.saga_id);
end
$$;

create or replace function provisioner.give_way(t provisioner.tenant) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v_next text := next_activity(t); -- not in the condition: there it is asked for each row
begin
    if exists (select from catalog.activity where kind = v_next and urgent) then
        update saga
        set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
        where tenant_id = t.tenant_id
          and status || '' = 'running'
          and not cancel_wanted
          and kind in (select kind from catalog.activity where gives_way);
    end if;
end
$$;

create or replace view provisioner.tenant_part as
select
    t.tenant_id,
    jsonb_build_object(
        'slug', t.slug,
        'company', t.company,
        'plan', t.plan,
        'driver', t.driver,
        'region', coalesce(d.region, t.region),
        'state', t.state,
        'reason', case when t.reason_code is not null
            then jsonb_build_object('code', t.reason_code, 'detail', t.reason_detail) end,
        'since', catalog.json_time(t.state_since),
        'activity', case when g.saga_id is not null then jsonb_build_object(
            'kind', g.kind, 'step', g.step, 'status', g.status, 'progress', g.progress, 'attempt', g.attempt,
            'error', g.error) end,
        'next', case
            when g.saga_id is not null and g.next_at > statement_timestamp() + interval '1 second'
                then jsonb_build_object('what', g.step, 'at', catalog.json_time(g.next_at))
            when g.saga_id is not null then jsonb_build_object('what', g.step, 'at', null)
            when t.state = 'attention' then jsonb_build_object('what', 'operator', -- to retry or to deprovision
                                                               'at', null)
        end,
        'access', jsonb_build_object(
            'wanted', catalog.wanted_access(t.tenant_id),
            'applied', t.access_applied,
            'reason', (select a.reason from catalog.access_wanted a
                       where a.tenant_id = t.tenant_id and a.wanted = 'none' order by a.source limit 1)),
        'schema', jsonb_build_object('version', t.schema_version),
        'backup', jsonb_build_object('at', catalog.json_time(t.backup_at)),
        'created_at', catalog.json_time(t.created_at)) as part
from provisioner.tenant t
left join provisioner.database d
    on d.tenant_id = t.tenant_id
    and d.generation = t.generation
left join lateral (
    select * from provisioner.saga x
    where x.tenant_id = t.tenant_id
      and x.status || '' in ('running', 'undoing')
    order by x.created_at
    limit 1
) g on true;

-- Twice in the catalog: operation_page begins with the same column.
drop index catalog.operation_since;

-- Room in each page, so that a row's next version stands beside it and the twelve indexes are left alone.
alter table provisioner.tenant set (fillfactor = 80);

-- Functions in SQL are planned anew at each call.
create or replace function provisioner.lock_tenant(p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    perform from tenant where tenant_id = p_tenant_id for update;
end
$$;

create or replace function provisioner.lock_name(p_what text, p_name text) returns void
language plpgsql
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended(format('tenantry %s %s', p_what, p_name), 0));
end
$$;

create or replace function catalog.claim_release(p_tenant_id uuid, p_holder uuid) returns void
language plpgsql
set enable_seqscan = off -- the table may have been empty when the plan was made
as $$
begin
    delete from catalog.tenant_claim
    where tenant_id = p_tenant_id
      and holder = p_holder;
end
$$;

create or replace function catalog.resolve_alert(p_cause text) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
set enable_seqscan = off
as $$
begin
    update alert
    set resolved_at = clock_timestamp()
    where cause = p_cause
      and resolved_at is null;
end
$$;

create or replace function provisioner.fail_operations(p_tenant_id uuid, p_kinds text[], p_code text, p_detail text)
returns void
language plpgsql
set enable_seqscan = off
as $$
begin
    update catalog.operation
    set state = 'failed', code = p_code, detail = p_detail, finished_at = clock_timestamp()
    where tenant_id = p_tenant_id
      and service = 'provisioner'
      and kind = any (p_kinds)
      and finished_at is null;
end
$$;

create or replace function provisioner.slug_is_free(p_slug text) returns boolean
language plpgsql stable
set enable_seqscan = off
as $$
begin
    return not exists (
        select from slug
        where slug.slug = p_slug
          and (held_until is null or held_until > clock_timestamp())
    ) and not p_slug = any (array[
        'www', 'api', 'admin', 'app', 'auth', 'billing', 'blog', 'cdn', 'dashboard', 'dev', 'docs', 'ftp', 'grafana',
        'help', 'imap', 'internal', 'localhost', 'login', 'mail', 'metrics', 'ns1', 'ns2', 'postgres', 'public', 'root',
        'smtp', 'staging', 'static', 'status', 'support', 'system', 'template0', 'template1', 'tenantry', 'test',
        'webhooks']);
end
$$;

create or replace function provisioner.saga_context(p_tenant_id uuid) returns jsonb
language plpgsql stable
set enable_seqscan = off
as $$
begin
    return (
        select to_jsonb(t) || jsonb_build_object(
            'access_wanted', catalog.wanted_access(t.tenant_id),
            'database', (select to_jsonb(d) from database d
                         where d.tenant_id = t.tenant_id and d.generation = t.generation),
            -- Where a project of this tenant never came up: the next one is made elsewhere if it can.
            'stuck_regions', (select coalesce(jsonb_object_agg(q.region, true), '{}') from database q
                              where q.tenant_id = t.tenant_id and q.status = 'quarantined' and q.region is not null),
            'restore', (select to_jsonb(r) || jsonb_build_object('file', archive_name(r.location), 'sha256', b.sha256)
                        from restore r
                        left join backup b using (tenant_id, location)
                        where r.tenant_id = t.tenant_id and r.number = t.restore_done + 1),
            'secrets', (select coalesce(jsonb_agg(to_jsonb(s)), '[]') from secret s where s.tenant_id = t.tenant_id))
        from tenant t
        where t.tenant_id = p_tenant_id
    );
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
