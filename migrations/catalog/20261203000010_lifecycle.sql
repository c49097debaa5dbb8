-- How long a tenant is to live is wanted by source, as its access is: billing archives who has not paid for long, and takes
-- back no more than its own wish.
-- migrate:up
set local check_function_bodies = off;

-- What is wanted of a tenant's life, by whom. The strictest wins: gone, archived, live. No row is live.
create table catalog.lifecycle_wanted (
    tenant_id uuid not null,
    source text not null check (source in ('operator', 'billing')),
    wanted text not null check (wanted in ('live', 'archived', 'gone')),
    reason text,
    cause text, -- billing's name for what its wish follows from
    overruled text, -- the cause of an archive that an operator took back by a restore: billing's comparison will find it again
    since timestamptz not null default clock_timestamp(),
    primary key (tenant_id, source),
    check (source = 'operator' or wanted <> 'gone'), -- only people delete
    check (source = 'operator' or wanted <> 'archived' or cause is not null)
);
grant select on catalog.lifecycle_wanted to public;
-- Billing has no right to write here: it calls want_lifecycle.
grant insert, update on catalog.lifecycle_wanted to tenantry_provisioner;

create function catalog.wanted_lifecycle(p_tenant_id uuid) returns text
language plpgsql stable
set enable_seqscan = off -- the table may have been empty when the plan was made
as $$
begin
    return coalesce((
        select wanted
        from catalog.lifecycle_wanted
        where tenant_id = p_tenant_id
        order by array_position(array['gone', 'archived', 'live'], wanted)
        limit 1
    ), 'live');
end
$$;

-- From now on provisioner.tenant.lifecycle_wanted is a copy of that, for next_activity and the indexes of those of whom
-- something is wanted. put_lifecycle and bring_to_life keep it.
--
-- Functions of the release before that were at work when they were replaced knew one wish, the operator's, and wrote it
-- straight into the column; to live it is set by a restore only.
create function provisioner.follow_lifecycle() returns trigger
language plpgsql
as $$
begin
    if new.lifecycle_wanted = catalog.wanted_lifecycle(new.tenant_id) then
        return null;
    end if;
    insert into catalog.lifecycle_wanted as l (tenant_id, source, wanted)
    values (new.tenant_id, 'operator', new.lifecycle_wanted)
    on conflict (tenant_id, source) do update
        set wanted = excluded.wanted, reason = null, since = clock_timestamp();
    if new.lifecycle_wanted = 'live' then
        perform provisioner.bring_to_life(new);
    end if;
    return null;
end
$$;

create trigger tenant_lifecycle
after update of lifecycle_wanted on provisioner.tenant
for each row
when (old.lifecycle_wanted is distinct from new.lifecycle_wanted)
execute function provisioner.follow_lifecycle();

-- Under the trigger's lock: nobody has set the column since who was not seen here.
insert into catalog.lifecycle_wanted (tenant_id, source, wanted, since)
select tenant_id, 'operator', lifecycle_wanted,
    case when state in ('archived', 'deprovisioned') then state_since else clock_timestamp() end
from provisioner.tenant
where lifecycle_wanted <> 'live';

-- What a source wants, and what is wanted then in all. Under the lock of the tenant's row.
create function provisioner.put_lifecycle(p_tenant_id uuid, p_source text, p_wanted text, p_reason text, p_cause text)
returns text
language plpgsql
set enable_seqscan = off
as $$
declare
    v_wanted text;
begin
    insert into catalog.lifecycle_wanted as l (tenant_id, source, wanted, reason, cause)
    values (p_tenant_id, p_source, p_wanted, p_reason, p_cause)
    on conflict (tenant_id, source) do update
        set wanted = excluded.wanted, reason = excluded.reason, cause = excluded.cause,
            since = case when l.wanted = excluded.wanted then l.since else clock_timestamp() end;
    v_wanted := catalog.wanted_lifecycle(p_tenant_id);
    update tenant
    set lifecycle_wanted = v_wanted
    where tenant_id = p_tenant_id
      and lifecycle_wanted <> v_wanted;
    return v_wanted;
end
$$;

-- An operator has had an archived tenant restored: that beats whoever wanted it archived before. Who wants it gone is not
-- beaten.
create function provisioner.bring_to_life(t provisioner.tenant) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v_source text;
    v_wanted text;
begin
    for v_source in
        update catalog.lifecycle_wanted
        set wanted = 'live', reason = 'restored', overruled = coalesce(cause, overruled), cause = null,
            since = clock_timestamp()
        where tenant_id = t.tenant_id
          and wanted = 'archived'
        returning source
    loop
        if v_source <> 'operator' then -- the restore is known as the operator's command
            perform catalog.record_change(
                t.tenant_id, 'tenant.lifecycle.wanted.v1',
                jsonb_build_object('source', v_source, 'wanted', 'live', 'reason', 'restored',
                                   'strictest', catalog.wanted_lifecycle(t.tenant_id)),
                t.caused_by, t.traceparent);
        end if;
    end loop;
    v_wanted := catalog.wanted_lifecycle(t.tenant_id);
    update provisioner.tenant
    set lifecycle_wanted = v_wanted
    where tenant_id = t.tenant_id
      and lifecycle_wanted <> v_wanted;
end
$$;

-- What billing wants of a tenant: live or archived, never gone. Returns what is wanted of it now in all; null for a tenant
-- that nobody knows. p_cause names what the wish follows from (a subscription and when it ended): an archive of a cause
-- that a restore has overruled is wanted no more, however often billing compares. p_caused_by: the event's id, if one led to
-- this. An archived tenant that is wanted live stays archived until an operator restores it.
create function catalog.want_lifecycle(
    p_tenant_id uuid,
    p_wanted text,
    p_reason text,
    p_cause text,
    p_caused_by text default null,
    p_traceparent text default null
) returns text
language plpgsql security definer
set search_path = provisioner, durable, catalog, pg_temp
set enable_seqscan = off
as $$
declare
    v tenant;
    v_before catalog.lifecycle_wanted;
    v_wanted text;
begin
    select * into v from tenant where tenant_id = p_tenant_id for update;
    select * into v_before from catalog.lifecycle_wanted where tenant_id = p_tenant_id and source = 'billing';
    if v.tenant_id is null or v.state = 'deprovisioned' or (p_wanted = 'archived' and p_cause = v_before.overruled) then
        return v.lifecycle_wanted;
    end if;
    v_wanted := put_lifecycle(p_tenant_id, 'billing', p_wanted, p_reason, p_cause);
    if p_wanted = coalesce(v_before.wanted, 'live') then
        return v_wanted; -- compared again, and nothing is new
    end if;
    update tenant
    set caused_by = p_caused_by, traceparent = p_traceparent
    where tenant_id = p_tenant_id
      and v_wanted <> v.lifecycle_wanted; -- else something else is done to it, for another cause
    perform catalog.record_change(
        p_tenant_id, 'tenant.lifecycle.wanted.v1',
        jsonb_build_object('source', 'billing', 'wanted', p_wanted, 'reason', p_reason, 'strictest', v_wanted),
        p_caused_by, p_traceparent);
    perform wake(p_tenant_id);
    return v_wanted;
end
$$;
revoke execute on function catalog.want_lifecycle from public;
grant execute on function catalog.want_lifecycle to tenantry_billing;

-- As it was, but that what is wanted of a tenant's life is the operator's wish.
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
    if v.state = 'archived' and v_kind not in ('deprovision', 'restore', 'label') then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_archived', null, 'this tenant is archived');
        return;
    end if;
    if v_kind = 'deprovision' and p_data ->> 'confirm' is distinct from v.slug then
        perform refuse(p_event, v_tenant, v_kind, 'not_confirmed', 'confirm',
            'deletion is protected: confirm must be the tenant''s subdomain');
        return;
    end if;
    if v_kind = 'label' then
        perform put_labels(v, p_event, p_data);
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
            perform put_lifecycle(v_tenant, 'operator', 'archived', p_data ->> 'reason', null);
        when 'deprovision' then
            perform put_lifecycle(v_tenant, 'operator', 'gone', p_data ->> 'reason', null);
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

-- As it was, but that it brings the tenant to life whoever had it archived.
create or replace function provisioner.settle_restore(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_facts jsonb) returns jsonb
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
        verify_wanted = case when verify_wanted = verify_done then verify_wanted + 1 else verify_wanted end
    where tenant_id = p_tenant_id
    returning * into v;
    update database
    set status = 'live'
    where tenant_id = p_tenant_id
      and generation = v.generation;
    perform catalog.record_ledger(p_tenant_id, null); -- nobody knows until it has been read
    if v.state = 'archived' then
        perform bring_to_life(v);
        perform set_state(p_tenant_id, 'provisioning', null, null);
    end if;
    return saga_context(p_tenant_id);
end
$$;

-- As it was, but that an archive that failed when it had begun to drop the database is ended: nobody may want it any more, and
-- yet there is nothing that access could be opened to.
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
    elsif v_saga.status = 'attention' and v.blocked = 'archive' and v_saga.step in ('drop', 'dropped')
        and v.lifecycle_wanted <> 'gone' then
        perform catalog.claim_take(p_tenant_id, 'archive', v_saga.saga_id);
        update saga
        set status = 'running', attempt = 0, crashes = 0, next_at = clock_timestamp(),
            step_since = catalog.business_now(), finished_at = null
        where saga_id = v_saga.saga_id;
    elsif v.blocked = 'provision' then -- it was undone
        update tenant set generation = generation + 1 where tenant_id = p_tenant_id;
        perform set_state(p_tenant_id, 'requested', null, null);
    else -- it has its database, and keeps it
        if v.blocked = 'archive' and v.lifecycle_wanted = 'live' and catalog.wanted_access(p_tenant_id) = 'full' then
            update tenant set access_applied = 'none' where tenant_id = p_tenant_id; -- as far as it came: opened again
        end if;
        select * into v from tenant where tenant_id = p_tenant_id;
        if next_activity(v) is null then
            perform set_state(p_tenant_id, 'ready', null, null);
        end if;
    end if;
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
