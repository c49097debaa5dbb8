-- What is asked for each command keeps its plans. A function in SQL that cannot be inlined is planned anew at each call, which
-- took twice as long as all that was done. A plan that was made while a table was empty must not read all of it when it is
-- not empty any more (until it is analyzed), so these know no other way than an index.
-- migrate:up
set local check_function_bodies = off;

create or replace function catalog.business_now() returns timestamptz
language plpgsql stable parallel safe
as $$
begin
    return (select clock_timestamp() + ahead from catalog.business_clock);
end
$$;

create or replace function catalog.wanted_access(p_tenant_id uuid) returns text
language plpgsql stable
set enable_seqscan = off
as $$
begin
    return case when exists (
        select from catalog.access_wanted
        where tenant_id = p_tenant_id
          and wanted = 'none'
    ) then 'none' else 'full' end;
end
$$;

create or replace function provisioner.next_activity(t provisioner.tenant) returns text
language plpgsql stable
as $$
begin
    return nullif(case
        when t.state = 'deprovisioned' then null
        when t.lifecycle_wanted = 'gone' then 'deprovision'
        when t.state = 'requested' then 'provision'
        when t.state <> 'ready' and not (t.state = 'attention' and t.blocked is null) then null
        when t.lifecycle_wanted = 'archived' then 'archive'
        when t.access_applied <> catalog.wanted_access(t.tenant_id) then 'access'
        when t.old_login_ends_at <= clock_timestamp() then 'retire'
        when t.rotation_applied < t.rotation_wanted and t.old_login_ends_at is null then 'rotate' -- else when it ended
        when t.backup_done < t.backup_wanted then 'backup'
        when t.invite_sent < t.invite_wanted then 'invite'
        when t.link_made < t.link_wanted then 'link'
    end, t.blocked);
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
          and status = 'running'
          and not cancel_wanted
          and kind in (select kind from catalog.activity where gives_way);
    end if;
end
$$;

create or replace function provisioner.want_access(p_tenant_id uuid, p_wanted text, p_reason text) returns bigint
language plpgsql
as $$
declare
    v_version bigint;
begin
    insert into catalog.access_wanted as a (tenant_id, source, wanted, reason)
    values (p_tenant_id, 'operator', p_wanted, p_reason)
    on conflict (tenant_id, source) do update
        set wanted = excluded.wanted, reason = excluded.reason, version = a.version + 1,
            changed_at = clock_timestamp()
    returning version into v_version;
    return v_version;
end
$$;

-- One after the other, each by its key, whatever the statistics say: there are few open ones or very many.
create or replace function provisioner.settle_operations(p_tenant_id uuid) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v tenant;
    v_reached boolean;
    v_operation record;
begin
    select * into v from tenant where tenant_id = p_tenant_id;
    for v_operation in
        select operation_id, kind, target
        from catalog.operation
        where tenant_id = p_tenant_id
          and service = 'provisioner'
          and state = 'accepted'
    loop
        v_reached := case v_operation.kind
            when 'signup' then v.state = 'ready'
            when 'suspend' then v.state = 'ready' and v.access_applied = catalog.wanted_access(p_tenant_id)
            when 'resume' then v.state = 'ready' and v.access_applied = catalog.wanted_access(p_tenant_id)
            when 'archive' then v.state = 'archived'
            when 'deprovision' then v.state = 'deprovisioned'
            when 'rotate_credentials' then v.rotation_applied >= v_operation.target
            when 'backup' then v.backup_done >= v_operation.target
            when 'resend_invite' then v.invite_sent >= v_operation.target
            when 'invite_link' then v.link_made >= v_operation.target
            when 'retry' then v.state in ('ready', 'archived', 'deprovisioned')
                and v.retry_done >= coalesce(v_operation.target, 0)
            else false
        end;
        if v_reached or v.state = 'deprovisioned' or (v.state = 'archived' and v_operation.kind <> 'deprovision') then
            update catalog.operation
            set state = case
                    when kind in ('suspend', 'resume') and target < (
                        select version from catalog.access_wanted
                        where tenant_id = p_tenant_id and source = 'operator') then 'superseded'
                    when v_reached then 'succeeded'
                    else 'superseded'
                end,
                finished_at = clock_timestamp()
            where operation_id = v_operation.operation_id
              and state = 'accepted';
        end if;
    end loop;
end
$$;

create or replace function durable.put_operation(p_event jsonb, p_tenant_id uuid, p_kind text, p_target bigint) returns void
language plpgsql
as $$
begin
    insert into catalog.operation (operation_id, service, source, tenant_id, kind, target, body_hash)
    select catalog.read_uuid(p_event ->> 'id'), current_schema(), coalesce(p_event ->> 'source', ''), p_tenant_id, p_kind,
        p_target, p_event ->> 'body_hash'
    where catalog.read_uuid(p_event ->> 'id') is not null
    on conflict (operation_id) do update
        set tenant_id = excluded.tenant_id, kind = excluded.kind, target = excluded.target, state = 'accepted',
            body_hash = excluded.body_hash, code = null, field = null, detail = null, result = '{}', finished_at = null
        where operation.state in ('accepted', 'rejected')
          and operation.service = excluded.service
          -- Another system may number its events alike: not its operation.
          and operation.source = excluded.source;
end
$$;

-- One change of the tenant's row for each command.
create or replace function provisioner.accept_command(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_kind text := split_part(p_event ->> 'type', '.', 2);
    v tenant;
    v_target bigint;
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
    if v.state = 'archived' and v_kind <> 'deprovision' then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_archived', null, 'this tenant is archived');
        return;
    end if;
    if v_kind = 'deprovision' and p_data ->> 'confirm' is distinct from v.slug then
        perform refuse(p_event, v_tenant, v_kind, 'not_confirmed', 'confirm',
            'deletion is protected: confirm must be the tenant''s subdomain');
        return;
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
              and status = 'running';
        when 'rotate_credentials' then
            v_target := v.rotation_wanted;
        when 'backup' then
            v_target := v.backup_wanted;
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
    perform give_way(v);
    perform catalog.record_change(
        v_tenant, 'tenant.command.accepted.v1',
        jsonb_build_object('command', v_kind, 'reason', p_data ->> 'reason', 'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform wake(v_tenant);
    perform settle_operations(v_tenant);
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
