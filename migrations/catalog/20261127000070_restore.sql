-- Backups come back: beside their tenant's database, in its place, or only to prove that they can. A restore is a wish like
-- others, one row each; what became of it stays in that row.
-- migrate:up
set local check_function_bodies = off;

alter table provisioner.tenant
    add column restore_wanted int not null default 0,
    add column restore_done int not null default 0; -- the last one that has ended, well or not

-- proved_at: restored, whole, to the last byte. tried_at: the last try, whatever came of it.
alter table provisioner.backup
    add column proved_at timestamptz,
    add column tried_at timestamptz;
create index backup_of_tenant on provisioner.backup (tenant_id, created_at);
create index backup_tried on provisioner.backup (tried_at nulls first, created_at);

create table provisioner.restore (
    tenant_id uuid not null references provisioner.tenant,
    number int not null,
    mode text not null check (mode in ('check', 'beside', 'in_place')),
    location text not null, -- of the backup or archive
    name text not null unique, -- of the copy, which a check drops and which in place becomes the tenant's database
    sampled boolean not null default false, -- nobody asked: the janitor did
    outcome text check (outcome in ('done', 'failed')), -- null: to be done, or under way
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (tenant_id, number)
);
create index restore_sampled on provisioner.restore (created_at) where sampled;
grant select, insert, update, delete on provisioner.restore to tenantry_provisioner;

-- What fails past its point of no return waits for a person and goes on where it stands.
alter table catalog.activity add column resumes boolean not null default false;
update catalog.activity set resumes = true where kind = 'provision';
insert into catalog.activity (kind, service, first_step, urgent, gives_way, background, blocks, operations, resumes)
values ('restore', 'provisioner', 'reserve', false, true, false, false, '{restore}', true);

create function provisioner.restore_in_hand(p_tenant_id uuid, p_done int) returns provisioner.restore
language plpgsql stable
as $$
declare
    v restore;
begin
    select * into v from restore where tenant_id = p_tenant_id and number = p_done + 1;
    return v;
end
$$;

create index tenant_restore_wish on provisioner.tenant (tenant_id)
    where restore_done < restore_wanted and state <> 'deprovisioned';

-- What the last restore that is wanted of a tenant is to be.
create function provisioner.put_restore(t provisioner.tenant, p_mode text, p_location text, p_sampled boolean) returns void
language plpgsql
as $$
begin
    insert into restore (tenant_id, number, mode, location, name, sampled)
    values (t.tenant_id, t.restore_wanted, p_mode, p_location,
            format('tn_%s_r%s', translate(t.tenant_id::text, '-', ''), t.restore_wanted), p_sampled);
end
$$;

-- The newest backup or archive of a tenant, or the one whose file is called so. Null where there is none.
create function provisioner.find_backup(p_tenant_id uuid, p_file text) returns text
language sql stable
as $$
    select location
    from backup
    where tenant_id = p_tenant_id
      and (p_file is null or archive_name(location) = p_tenant_id || '/' || p_file)
    order by created_at desc
    limit 1
$$;

-- Why a restore is refused: code, field and sentence; code is null where it is not.
create function provisioner.refusal_of_restore(
    t provisioner.tenant,
    p_data jsonb,
    out code text,
    out field text,
    out detail text
)
language sql stable
as $$
    select r.code, r.field, r.detail from (values
        (t.driver <> 'postgres', 'driver_cannot', null,
            'backups of a Supabase project are restored by hand: see docs/operations.md'),
        (t.state = 'archived' and p_data ->> 'mode' = 'beside', 'tenant_archived', 'mode',
            'there is nothing to restore beside: check its archive, or bring the tenant back in place'),
        (find_backup(t.tenant_id, p_data ->> 'backup') is null, 'no_backup', 'backup',
            case when p_data ? 'backup' then 'the tenant has no backup or archive of that name'
                 else 'the tenant has neither backup nor archive' end),
        (p_data ->> 'mode' = 'in_place' and t.state <> 'archived' and not p_data ? 'confirm', 'not_confirmed', 'confirm',
            'what the tenant has now would be replaced: confirm must be the tenant''s subdomain'),
        (p_data ->> 'confirm' <> t.slug, 'not_confirmed', 'confirm', 'confirm must be the tenant''s subdomain')
    ) r (refused, code, field, detail)
    where r.refused
    limit 1
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
              and status = 'running';
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
    perform give_way(v);
    perform catalog.record_change(
        v_tenant, 'tenant.command.accepted.v1',
        jsonb_build_object('command', v_kind, 'reason', p_data ->> 'reason', 'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform wake(v_tenant);
    perform settle_operations(v_tenant);
end
$$;

create or replace function provisioner.apply_retry(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v tenant;
    v_saga saga;
begin
    update tenant set retry_done = retry_wanted where tenant_id = p_tenant_id
    returning * into v;
    if v.state <> 'attention' then
        return; -- there is nothing to retry
    end if;
    select * into v_saga
    from saga
    where tenant_id = p_tenant_id
      and kind = v.blocked
    order by created_at desc
    limit 1;
    update tenant set blocked = null where tenant_id = p_tenant_id;
    if v_saga.status = 'attention' and v.blocked in (select kind from catalog.activity where resumes) then
        perform catalog.claim_take(p_tenant_id, v.blocked, v_saga.saga_id);
        update saga
        set status = case when v_saga.data ->> 'undoing' = 'true' then 'undoing' else 'running' end,
            attempt = 0, crashes = 0, next_at = clock_timestamp(),
            step_since = catalog.business_now(), finished_at = null
        where saga_id = v_saga.saga_id;
        perform set_state(p_tenant_id, 'provisioning', null, null);
    elsif v.blocked = 'provision' then -- it was undone
        update tenant set generation = generation + 1 where tenant_id = p_tenant_id;
        perform set_state(p_tenant_id, 'requested', null, null);
    else -- it has its database, and keeps it
        select * into v from tenant where tenant_id = p_tenant_id;
        if next_activity(v) is null then
            perform set_state(p_tenant_id, 'ready', null, null);
        end if;
    end if;
end
$$;

-- One after the other, each by its key, whatever the statistics say: there are few open ones or very many. A suspension was
-- told as succeeded while the activity of an earlier resume was at work: nothing differed yet, and a moment later the tenant
-- was open again. What is told is what was read back when nobody is at it any more.
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
          and state = 'accepted'
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
            where operation_id = v_operation.operation_id
              and state = 'accepted';
        end if;
    end loop;
end
$$;

-- What a restore came to, told to the wish, the backup and whoever waits. One that gave way is begun again.
create function provisioner.restore_ended(v provisioner.saga) returns void
language plpgsql
as $$
declare
    v_restore restore;
begin
    select r.* into v_restore
    from tenant t, restore_in_hand(t.tenant_id, t.restore_done) r
    where t.tenant_id = v.tenant_id;
    if v.status = 'cancelled' or (v.status = 'attention' and v_restore.mode = 'in_place') then
        return;
    end if;
    update restore
    set outcome = case when v.status = 'done' then 'done' else 'failed' end,
        finished_at = clock_timestamp()
    where tenant_id = v.tenant_id
      and (number = v_restore.number or (v.status <> 'done' and outcome is null)); -- those behind it fail with it
    update backup
    set proved_at = case when v.status = 'done' then clock_timestamp() else proved_at end,
        tried_at = clock_timestamp()
    where tenant_id = v.tenant_id
      and location = v_restore.location;
    if v.status <> 'done' then
        return;
    end if;
    update tenant set restore_done = v_restore.number where tenant_id = v.tenant_id;
    update catalog.operation o
    set result = jsonb_build_object('restored', jsonb_build_object(
        'backup', split_part(archive_name(v_restore.location), '/', 2),
        'tables', v.data -> 'tables',
        'schema_version', v.data -> 'schema_version',
        'host', case when v_restore.mode <> 'check' then d.host end,
        'port', case when v_restore.mode <> 'check' then d.port::int end,
        'database', case v_restore.mode when 'beside' then v_restore.name when 'in_place' then d.dbname end))
    from tenant t
    join database d using (tenant_id, generation)
    where t.tenant_id = v.tenant_id
      and o.tenant_id = v.tenant_id
      and o.service = 'provisioner'
      and o.kind = 'restore'
      and o.target = v_restore.number
      and o.state = 'accepted';
    if v_restore.mode = 'in_place' then
        update tenant set blocked = null where tenant_id = v.tenant_id;
        perform set_state(v.tenant_id, 'ready', null, null);
    end if;
end
$$;

create or replace function provisioner.saga_ended(p_saga_id uuid) returns void
language plpgsql
as $$
declare
    v saga;
    v_activity catalog.activity;
    v_code text;
    v_detail text;
begin
    select * into v from saga where saga_id = p_saga_id;
    select * into v_activity from catalog.activity where kind = v.kind;
    v_code := v.error ->> 'code';
    v_detail := v.error ->> 'detail';
    perform catalog.record_change(
        v.tenant_id, 'tenant.activity.finished.v1',
        jsonb_build_object('activity', v.kind, 'outcome', v.status, 'error', v.error), v.caused_by, v.traceparent);

    if v.kind = 'restore' then
        perform restore_ended(v);
        -- Only what was put in the place of a tenant's database leaves it half done.
        v_activity.blocks := v.status = 'attention' and exists (
            select from tenant t, restore_in_hand(t.tenant_id, t.restore_done) r
            where t.tenant_id = v.tenant_id
              and r.mode = 'in_place');
        if v_activity.blocks then
            v_activity.operations := array_append(v_activity.operations, 'retry');
        end if;
    end if;
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
    elsif not v_activity.blocks then
        -- The tenant works as before: say so, and do not try for ever.
        update tenant
        set rotation_wanted = case when v.kind = 'rotate' then rotation_applied else rotation_wanted end,
            old_login_ends_at = case when v.kind = 'retire' then clock_timestamp() + interval '1 hour'
                                     else old_login_ends_at end,
            backup_wanted = case when v.kind = 'backup' then backup_done else backup_wanted end,
            restore_done = case when v.kind = 'restore' then restore_wanted else restore_done end,
            invite_wanted = case when v.kind = 'invite' then invite_sent else invite_wanted end,
            link_wanted = case when v.kind = 'link' then link_made else link_wanted end
        where tenant_id = v.tenant_id;
        perform fail_operations(v.tenant_id, v_activity.operations, v_code, v_detail);
        perform catalog.raise_alert('tenant-' || v.kind || ':' || v.tenant_id, v.tenant_id,
            format('%s failed', v.kind), coalesce(v_detail, v.status));
        if exists (select from tenant where tenant_id = v.tenant_id and state = 'attention' and blocked is null) then
            perform set_state(v.tenant_id, 'ready', null, null); -- what blocked it was retried, and this was all that followed
        end if;
    else
        update tenant set blocked = v.kind where tenant_id = v.tenant_id;
        perform set_state(v.tenant_id, 'attention', v_code, v_detail);
        perform fail_operations(v.tenant_id, v_activity.operations, v_code, v_detail);
        perform catalog.raise_alert('tenant-attention:' || v.tenant_id, v.tenant_id,
            format('%s needs a person', v.kind), coalesce(v_detail, v.status));
    end if;
    perform settle_operations(v.tenant_id);
    perform wake(v.tenant_id);
end
$$;

-- The copy stands in the place of the tenant's database: from here on that is what the tenant has. Access stays closed
-- until the saga opens it as it is wanted.
create function provisioner.settle_restore(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_facts jsonb) returns jsonb
language plpgsql
as $$
declare
    v tenant;
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    update tenant
    set access_applied = 'none',
        schema_version = coalesce(p_facts ->> 'schema_version', schema_version),
        lifecycle_wanted = case when state = 'archived' and lifecycle_wanted = 'archived' then 'live'
                                else lifecycle_wanted end
    where tenant_id = p_tenant_id
    returning * into v;
    update database
    set status = 'live'
    where tenant_id = p_tenant_id
      and generation = v.generation;
    if v.state = 'archived' then
        perform set_state(p_tenant_id, 'provisioning', null, null);
    end if;
    return saga_context(p_tenant_id);
end
$$;

create or replace function provisioner.saga_context(p_tenant_id uuid) returns jsonb
language sql
as $$
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
$$;

-- A copy that is known: of a restore under way, or one beside its tenant's database; null for any other.
create function provisioner.copy_of(p_name text) returns provisioner.restore
language sql stable
as $$
    select r.*
    from restore r
    where r.name = substring(p_name from '^(tn_[0-9a-f]{32}_r[0-9]+)(?:_f[0-9]+|_old)?$')
      and (r.outcome is null or (r.outcome = 'done' and r.mode = 'beside' and p_name = r.name))
$$;

create or replace function provisioner.report_inventory(p_driver text, p_server text, p_found jsonb) returns void
language plpgsql
as $$
declare
    v_wrong int;
begin
    delete from inventory
    where driver = p_driver
      and server = p_server;

    insert into inventory (driver, server, name, tenant_id, generation, verdict, detail, monthly_cost_cents)
    select p_driver, p_server, f.name, coalesce(d.tenant_id, copy.tenant_id, f.tenant_id), coalesce(d.generation, f.generation),
        case
            when copy.tenant_id is not null then 'ours'
            when d.name is null then 'orphan'
            when d.status = 'quarantined' then 'quarantined'
            when d.status = 'deleted' then 'orphan'
            when drift.detail is not null then 'drift'
            else 'ours'
        end,
        case
            when copy.outcome is not null then format('restored from %s', split_part(archive_name(copy.location), '/', 2))
            when copy.tenant_id is not null then 'a restore is at work on it'
            when d.name is null then 'no tenant knows it'
            when d.status = 'quarantined' then 'was replaced; waits to be deleted'
            when d.status = 'deleted' then 'should have been deleted'
            else coalesce(drift.detail, '')
        end,
        coalesce(f.cost, 0)
    from jsonb_to_recordset(p_found) f (name text, tenant_id uuid, generation int, cost int, open boolean, status text)
    left join database d
        on d.name = f.name
        and d.driver = p_driver
    left join lateral (select c.* from copy_of(f.name) c where d.name is null) copy on true
    left join lateral (select drift_of(d, p_server, f.open, f.status) as detail where d.status = 'live') drift on true
    on conflict do nothing;

    insert into inventory (driver, server, name, tenant_id, generation, verdict, detail)
    select p_driver, p_server, d.name, d.tenant_id, d.generation, 'ghost', 'the provider does not have it any more'
    from database d
    where d.driver = p_driver
      and coalesce(d.server, '') = p_server
      and d.status = 'live'
      and not exists (
          select from saga s
          where s.tenant_id = d.tenant_id
            and s.status in ('running', 'undoing'))
      and not exists (
          select from jsonb_to_recordset(p_found) f (name text)
          where f.name = d.name)
    on conflict do nothing;

    select count(*) into v_wrong
    from inventory
    where driver = p_driver
      and server = p_server
      and verdict in ('orphan', 'ghost', 'drift');
    if v_wrong > 0 then
        perform catalog.raise_alert(format('inventory:%s:%s', p_driver, p_server), null, 'inventory differs',
            format('%s of %s %s are orphans, ghosts or drifted; see: tenantry inventory', v_wrong, p_driver, p_server));
    else
        perform catalog.resolve_alert(format('inventory:%s:%s', p_driver, p_server));
    end if;
end
$$;

-- A sample: the newest backup of the tenant whose turn it is, when the last sample was taken that long ago. Returns whom.
create function provisioner.sample_backup(p_interval_ms bigint) returns uuid
language plpgsql
as $$
declare
    v record;
    v_tenant tenant;
begin
    if exists (
        select from restore
        where sampled
          and (created_at > statement_timestamp() - p_interval_ms * interval '1 ms' or outcome is null)
    ) then
        return null;
    end if;
    select b.tenant_id, b.location into v
    from backup b
    join tenant t using (tenant_id)
    where t.driver = 'postgres'
      and t.state in ('ready', 'archived')
      and t.lifecycle_wanted <> 'gone'
      and t.restore_done = t.restore_wanted
      and not exists (select from backup n where n.tenant_id = b.tenant_id and n.created_at > b.created_at)
    order by b.tried_at nulls first, b.created_at
    limit 1
    for update of t skip locked;
    if not found then
        return null;
    end if;
    update tenant
    set restore_wanted = restore_wanted + 1
    where tenant_id = v.tenant_id
    returning * into v_tenant;
    perform put_restore(v_tenant, 'check', v.location, true);
    perform wake(v.tenant_id);
    return v.tenant_id;
end
$$;

create or replace view gateway.backup as
select tenant_id, kind, location, bytes, sha256, objects, catalog.json_time(created_at) as created_at,
    catalog.json_time(proved_at) as proved_at
from provisioner.backup;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
