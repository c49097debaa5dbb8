-- The provisioner's facts: tenants, their databases and secrets, the servers they may live on, and the one place where
-- what is wanted of a tenant is compared with what is (next_activity, wake).
-- migrate:up
set local check_function_bodies = off; -- functions find saga and the other tables by the provisioner's search_path

select durable.create_tables('provisioner', 'tenantry_provisioner');

create table provisioner.tenant (
    tenant_id uuid primary key,
    slug text not null,
    company text not null,
    email text not null,
    admin_name text,
    admin_id uuid not null,
    plan text not null,
    region text,
    driver text not null check (driver in ('postgres', 'supabase')),
    state text not null default 'requested'
        check (state in ('requested', 'provisioning', 'ready', 'attention', 'archived', 'deprovisioned')),
    state_since timestamptz not null default clock_timestamp(),
    reason_code text,
    reason_detail text,
    generation int not null default 1,
    home_server text, -- where its database was found; else it is placed where there is room
    lifecycle_wanted text not null default 'live' check (lifecycle_wanted in ('live', 'archived', 'gone')),
    access_applied text not null default 'none' check (access_applied in ('full', 'none')),
    rotation_wanted int not null default 1,
    rotation_applied int not null default 1,
    old_login_ends_at timestamptz, -- after a rotation the old app login works until then
    backup_wanted int not null default 0,
    backup_done int not null default 0,
    backup_at timestamptz,
    invite_wanted int not null default 1,
    invite_sent int not null default 0,
    link_wanted int not null default 0,
    link_made int not null default 0,
    schema_version text,
    blocked text, -- the activity that ended in attention; not started again before somebody says so
    caused_by text,
    traceparent text,
    created_at timestamptz not null default clock_timestamp()
);
create index tenant_state on provisioner.tenant (state);

-- A name stays taken while links to it may live on, also after its tenant is gone.
create table provisioner.slug (
    slug text primary key,
    tenant_id uuid not null,
    held_until timestamptz
);

-- Where tenant databases may be made. The admin URLs stay in the provisioner's configuration.
create table provisioner.server (
    name text primary key,
    region text,
    capacity int not null,
    tenant_host text not null,
    tenant_port text not null,
    enabled boolean not null default true
);

create table provisioner.database (
    tenant_id uuid not null references provisioner.tenant,
    generation int not null,
    driver text not null,
    server text,
    name text not null,
    project_ref text,
    region text,
    host text,
    port text,
    dbname text,
    owner_login text,
    app_login text,
    login_suffix text, -- supabase: what the roles' names end in where logins are told apart by the project's ref
    data_api_schemas text, -- supabase: what to open again on resume
    status text not null default 'reserved'
        check (status in ('reserved', 'live', 'quarantined', 'deleted')),
    reservation uuid not null default gen_random_uuid(), -- what we make bears it; what bears another was there before
    adopted boolean not null default false, -- it was there before: never removed because a provisioning fails
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, generation)
);
create index database_of_server on provisioner.database (server) where status <> 'deleted';

-- Sealed texts only (AES-256-GCM; tenant, field and generation are bound into the seal).
create table provisioner.secret (
    tenant_id uuid not null,
    field text not null,
    generation int not null,
    ring text not null check (ring in ('control', 'app')),
    sealed text not null,
    primary key (tenant_id, field, generation)
);

create table provisioner.backup (
    tenant_id uuid not null,
    location text not null,
    kind text not null check (kind in ('backup', 'archive')),
    bytes bigint not null,
    sha256 text not null,
    objects int not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, location)
);

-- What the janitor saw last: what the provider has against what the catalog knows.
create table provisioner.inventory (
    driver text not null,
    server text not null default '',
    name text not null,
    tenant_id uuid,
    generation int,
    verdict text not null check (verdict in ('ours', 'orphan', 'ghost', 'quarantined', 'drift')),
    detail text not null default '',
    monthly_cost_cents int not null default 0,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (driver, server, name)
);

grant select, insert, update, delete on provisioner.tenant, provisioner.slug, provisioner.server,
    provisioner.database, provisioner.secret, provisioner.backup, provisioner.inventory to tenantry_provisioner;

-- The only way to another state. Illegal paths are defects and say so.
create function provisioner.set_state(p_tenant_id uuid, p_state text, p_code text, p_detail text) returns void
language plpgsql
as $$
declare
    v tenant;
    v_from text;
begin
    select * into v from tenant where tenant_id = p_tenant_id for update;
    v_from := v.state;
    if v_from = p_state and v.reason_code is not distinct from p_code then
        return;
    end if;
    if not (v_from, p_state) in (
        ('requested', 'provisioning'), ('requested', 'deprovisioned'), ('requested', 'attention'),
        ('provisioning', 'ready'), ('provisioning', 'attention'), ('provisioning', 'requested'),
        ('provisioning', 'deprovisioned'),
        ('ready', 'archived'), ('ready', 'attention'), ('ready', 'deprovisioned'),
        ('attention', 'requested'), ('attention', 'provisioning'), ('attention', 'ready'), ('attention', 'archived'),
        ('attention', 'deprovisioned'), ('attention', 'attention'),
        ('archived', 'deprovisioned'), ('archived', 'attention'), ('archived', 'provisioning')
    ) then
        raise exception 'a tenant does not go from % to %', v_from, p_state using errcode = 'TN500';
    end if;
    update tenant
    set state = p_state, state_since = clock_timestamp(), reason_code = p_code, reason_detail = p_detail
    where tenant_id = p_tenant_id;
    perform catalog.record_change(
        p_tenant_id, 'tenant.state.changed.v1',
        jsonb_build_object('from', v_from, 'to', p_state, 'reason', case when p_code is not null
            then jsonb_build_object('code', p_code, 'detail', p_detail) end),
        v.caused_by, v.traceparent);
end
$$;

-- Whoever changes several things of a tenant takes its row first, so that no two wait for each other.
create function provisioner.lock_tenant(p_tenant_id uuid) returns void
language sql
as $$
    select from tenant where tenant_id = p_tenant_id for update
$$;

-- What is to be done next for a tenant: a pure function of its facts. Null when it is as it should be.
create function provisioner.next_activity(t provisioner.tenant) returns text
language sql stable
as $$
    select nullif(case
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
    end, t.blocked)
$$;

create function provisioner.first_step(p_activity text) returns text
language sql immutable
as $$
    select case p_activity
        when 'provision' then 'reserve'
        when 'deprovision' then 'close'
        when 'archive' then 'close'
        when 'access' then 'apply'
        when 'rotate' then 'set_login'
        when 'retire' then 'end_old'
        when 'backup' then 'dump'
        when 'invite' then 'send'
        when 'link' then 'make'
    end
$$;

-- What the tenant can do without for now gives way to what must not wait; it is begun again afterwards. Before anything
-- is written to the tenant's status: whoever advances a saga locks in that order too.
create function provisioner.give_way(t provisioner.tenant) returns void
language sql
as $$
    update saga
    set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
    where tenant_id = t.tenant_id
      and status = 'running'
      and not cancel_wanted
      and kind in ('backup', 'invite', 'rotate', 'retire', 'link')
      and next_activity(t) in ('access', 'archive', 'deprovision')
$$;

-- Compares and, where something is to be done and nobody is at it, starts the saga that does it. Safe to call at any
-- time, any number of times.
create function provisioner.wake(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v tenant;
    v_activity text;
    v_saga uuid := gen_random_uuid();
begin
    select * into v from tenant where tenant_id = p_tenant_id for update;
    v_activity := next_activity(v);
    if v_activity is null then
        return;
    end if;
    insert into catalog.tenant_claim (tenant_id, kind, holder)
    values (p_tenant_id, v_activity, v_saga)
    on conflict do nothing;
    if not found then
        perform give_way(v);
        return;
    end if;
    insert into saga (saga_id, tenant_id, kind, step, background, caused_by, traceparent)
    values (v_saga, p_tenant_id, v_activity, first_step(v_activity), v_activity = 'backup', v.caused_by, v.traceparent);
    perform catalog.record_change(
        p_tenant_id, 'tenant.activity.started.v1',
        jsonb_build_object('activity', v_activity), v.caused_by, v.traceparent);
    if v_activity = 'provision' then
        perform set_state(p_tenant_id, 'provisioning', null, null);
    end if;
end
$$;

-- Operations whose target is reached, or can not be reached any more, are told so; whoever polls them sees it.
create function provisioner.settle_operations(p_tenant_id uuid) returns void
language sql
as $$
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
            when 'retry' then t.state in ('ready', 'archived', 'deprovisioned')
            else false
        end as reached,
        k.operation_id
        from catalog.operation k
        where k.tenant_id = t.tenant_id
          and k.state = 'accepted'
    ) r
    where t.tenant_id = p_tenant_id
      and o.operation_id = r.operation_id
      and (r.reached or t.state = 'deprovisioned' or (t.state = 'archived' and o.kind <> 'deprovision'))
$$;

create function provisioner.fail_operations(p_tenant_id uuid, p_kinds text[], p_code text, p_detail text) returns void
language sql
as $$
    update catalog.operation
    set state = 'failed', code = p_code, detail = p_detail, finished_at = clock_timestamp()
    where tenant_id = p_tenant_id
      and kind = any (p_kinds)
      and state = 'accepted'
$$;

-- What the end of a saga means for its tenant. Called by durable.saga_end in the same transaction.
create function provisioner.saga_ended(p_saga_id uuid) returns void
language plpgsql
as $$
declare
    v saga;
    v_code text;
    v_detail text;
begin
    select * into v from saga where saga_id = p_saga_id;
    v_code := v.error ->> 'code';
    v_detail := v.error ->> 'detail';
    perform catalog.record_change(
        v.tenant_id, 'tenant.activity.finished.v1',
        jsonb_build_object('activity', v.kind, 'outcome', v.status, 'error', v.error), v.caused_by, v.traceparent);

    if v.status = 'done' then
        case v.kind
            when 'provision' then
                perform set_state(v.tenant_id, 'ready', null, null);
            when 'archive' then
                perform set_state(v.tenant_id, 'archived', null, null);
            when 'deprovision' then
                update slug
                set held_until = clock_timestamp() + interval '90 days'
                where tenant_id = v.tenant_id;
                perform set_state(v.tenant_id, 'deprovisioned', null, null);
            else
                if (select state from tenant where tenant_id = v.tenant_id) = 'attention' then
                    perform set_state(v.tenant_id, 'ready', null, null); -- after a retry
                end if;
        end case;
        perform catalog.resolve_alert('tenant-attention:' || v.tenant_id);
        perform catalog.resolve_alert('tenant-' || v.kind || ':' || v.tenant_id);
        if v.kind = 'invite' then
            perform catalog.resolve_alert('invitation:' || v.tenant_id);
        end if;
    elsif v.status = 'cancelled' and v.kind = 'provision' then
        perform set_state(v.tenant_id, 'requested', null, null);
    elsif v.status = 'cancelled' then
        null; -- it gave way; the wish stands
    elsif v.kind in ('rotate', 'retire', 'backup', 'invite', 'link') then
        -- The tenant works as before: say so, and do not try for ever.
        update tenant
        set rotation_wanted = case when v.kind = 'rotate' then rotation_applied else rotation_wanted end,
            old_login_ends_at = case when v.kind = 'retire' then clock_timestamp() + interval '1 hour'
                                     else old_login_ends_at end,
            backup_wanted = case when v.kind = 'backup' then backup_done else backup_wanted end,
            invite_wanted = case when v.kind = 'invite' then invite_sent else invite_wanted end,
            link_wanted = case when v.kind = 'link' then link_made else link_wanted end
        where tenant_id = v.tenant_id;
        perform fail_operations(v.tenant_id, array[case v.kind
            when 'rotate' then 'rotate_credentials'
            when 'invite' then 'resend_invite'
            when 'link' then 'invite_link'
            else v.kind end], v_code, v_detail);
        perform catalog.raise_alert('tenant-' || v.kind || ':' || v.tenant_id, v.tenant_id,
            format('%s failed', v.kind), coalesce(v_detail, v.status));
        if exists (select from tenant where tenant_id = v.tenant_id and state = 'attention' and blocked is null) then
            perform set_state(v.tenant_id, 'ready', null, null); -- what blocked it was retried, and this was all that followed
        end if;
    else
        update tenant set blocked = v.kind where tenant_id = v.tenant_id;
        perform set_state(v.tenant_id, 'attention', v_code, v_detail);
        perform fail_operations(v.tenant_id, case v.kind
            when 'provision' then array['signup', 'retry']
            when 'access' then array['suspend', 'resume', 'retry']
            else array[v.kind, 'retry'] end, v_code, v_detail);
        perform catalog.raise_alert('tenant-attention:' || v.tenant_id, v.tenant_id,
            format('%s needs a person', v.kind), coalesce(v_detail, v.status));
    end if;
    perform settle_operations(v.tenant_id);
    perform wake(v.tenant_id);
end
$$;

-- migrate:down
drop table provisioner.inventory, provisioner.backup, provisioner.secret, provisioner.database, provisioner.server,
    provisioner.slug, provisioner.saga, provisioner.parked, provisioner.dead_letter, provisioner.consumer_offset,
    provisioner.inbox cascade;
drop table provisioner.tenant cascade;
drop function provisioner.lock_tenant, provisioner.set_state, provisioner.first_step, provisioner.give_way, provisioner.wake, provisioner.settle_operations,
    provisioner.fail_operations, provisioner.saga_ended;
