-- What is asked for each command keeps its plans. A function in SQL that cannot be inlined is planned anew at each call, which
-- took twice as long as all that was done.
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
as $$
begin
    if exists (select from catalog.activity where kind = next_activity(t) and urgent) then
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

create or replace function provisioner.settle_operations(p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    update catalog.operation o
    set state = case
            when o.kind in ('suspend', 'resume') and o.target < w.version then 'superseded'
            when r.reached then 'succeeded'
            else 'superseded'
        end,
        finished_at = clock_timestamp()
    from tenant t
    left join catalog.access_wanted w
        on w.tenant_id = t.tenant_id
        and w.source = 'operator',
    lateral (
        select case k.kind
            when 'signup' then t.state = 'ready'
            when 'suspend' then t.state = 'ready' and t.access_applied = catalog.wanted_access(t.tenant_id)
            when 'resume' then t.state = 'ready' and t.access_applied = catalog.wanted_access(t.tenant_id)
            when 'archive' then t.state = 'archived'
            when 'deprovision' then t.state = 'deprovisioned'
            when 'rotate_credentials' then t.rotation_applied >= k.target
            when 'backup' then t.backup_done >= k.target
            when 'resend_invite' then t.invite_sent >= k.target
            when 'invite_link' then t.link_made >= k.target
            when 'retry' then t.state in ('ready', 'archived', 'deprovisioned') and t.retry_done >= coalesce(k.target, 0)
            else false
        end as reached,
        k.operation_id
        from catalog.operation k
        where k.tenant_id = t.tenant_id
          and k.service = 'provisioner'
          and k.state = 'accepted'
    ) r
    where t.tenant_id = p_tenant_id
      and o.operation_id = r.operation_id
      and (r.reached or t.state = 'deprovisioned' or (t.state = 'archived' and o.kind <> 'deprovision'));
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
