-- What is wanted of tenants against what is: the comparison by the table of activities, retries as facts, and the safety
-- net in batches, so that a whole fleet can wait to be woken.
-- migrate:up
set local check_function_bodies = off;

create or replace function provisioner.first_step(p_activity text) returns text
language sql stable
as $$
    select first_step from catalog.activity where kind = p_activity
$$;

create or replace function provisioner.give_way(t provisioner.tenant) returns void
language sql
as $$
    update saga
    set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
    where tenant_id = t.tenant_id
      and status = 'running'
      and not cancel_wanted
      and kind in (select kind from catalog.activity where gives_way)
      and next_activity(t) in (select kind from catalog.activity where urgent)
$$;

-- Tries again what waits for a person: a provisioning that failed starts anew in the next generation, one that passed
-- its point of no return goes on where it stands, anything else is compared anew. Not under a claim: a generation must not
-- change under a saga.
drop function provisioner.accept_retry;
create function provisioner.apply_retry(p_tenant_id uuid) returns void
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
    if v.blocked = 'provision' and v_saga.status = 'attention' then
        perform catalog.claim_take(p_tenant_id, 'provision', v_saga.saga_id);
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

-- Compares and, where something is to be done and nobody is at it, starts the saga that does it. Safe to call at any
-- time, any number of times.
create or replace function provisioner.wake(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v tenant;
    v_activity text;
    v_saga uuid := gen_random_uuid();
begin
    select * into v from tenant where tenant_id = p_tenant_id for update;
    if v.retry_done < v.retry_wanted
        and not exists (select from catalog.tenant_claim where tenant_id = p_tenant_id) then
        perform apply_retry(p_tenant_id);
        perform settle_operations(p_tenant_id);
        select * into v from tenant where tenant_id = p_tenant_id;
    end if;
    v_activity := next_activity(v);
    if v_activity is null then
        return;
    end if;
    if not catalog.claim_take(p_tenant_id, v_activity, v_saga) then
        perform give_way(v);
        return;
    end if;
    insert into saga (saga_id, tenant_id, kind, step, background, caused_by, traceparent)
    select v_saga, p_tenant_id, kind, first_step, background, v.caused_by, v.traceparent
    from catalog.activity
    where kind = v_activity;
    perform catalog.record_change(
        p_tenant_id, 'tenant.activity.started.v1',
        jsonb_build_object('activity', v_activity), v.caused_by, v.traceparent);
    if v_activity = 'provision' then
        perform set_state(p_tenant_id, 'provisioning', null, null);
    end if;
end
$$;

create or replace function provisioner.settle_operations(p_tenant_id uuid) returns void
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
      and (r.reached or t.state = 'deprovisioned' or (t.state = 'archived' and o.kind <> 'deprovision'))
$$;

create or replace function provisioner.fail_operations(p_tenant_id uuid, p_kinds text[], p_code text, p_detail text)
returns void
language sql
as $$
    update catalog.operation
    set state = 'failed', code = p_code, detail = p_detail, finished_at = clock_timestamp()
    where tenant_id = p_tenant_id
      and service = 'provisioner'
      and kind = any (p_kinds)
      and state = 'accepted'
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

-- Those of whom something is wanted, whatever hinders it: few of many thousands, so each question has an index of its own.
create index tenant_wish on provisioner.tenant (tenant_id)
    where (state = 'requested'
           or (lifecycle_wanted = 'gone' and state <> 'deprovisioned')
           or (lifecycle_wanted = 'archived' and state not in ('archived', 'deprovisioned'))
           or old_login_ends_at is not null
           or rotation_applied < rotation_wanted
           or backup_done < backup_wanted
           or invite_sent < invite_wanted
           or link_made < link_wanted
           or retry_done < retry_wanted)
      and state <> 'deprovisioned';
create index tenant_closed on provisioner.tenant (tenant_id) where access_applied = 'none' and state in ('ready', 'attention');
create index access_closed on catalog.access_wanted (tenant_id) where wanted = 'none';

create view provisioner.tenant_to_compare as
select tenant_id
from provisioner.tenant
where (state = 'requested'
       or (lifecycle_wanted = 'gone' and state <> 'deprovisioned')
       or (lifecycle_wanted = 'archived' and state not in ('archived', 'deprovisioned'))
       or old_login_ends_at is not null
       or rotation_applied < rotation_wanted
       or backup_done < backup_wanted
       or invite_sent < invite_wanted
       or link_made < link_wanted
       or retry_done < retry_wanted)
  and state <> 'deprovisioned'
union
select tenant_id
from provisioner.tenant t
where access_applied = 'none'
  and state in ('ready', 'attention')
  and not exists (select from catalog.access_wanted a where a.tenant_id = t.tenant_id and a.wanted = 'none')
union
select t.tenant_id
from catalog.access_wanted a
join provisioner.tenant t using (tenant_id)
where a.wanted = 'none'
  and t.access_applied = 'full'
  and t.state in ('ready', 'attention');
grant select on provisioner.tenant_to_compare to tenantry_provisioner;

-- Level-triggered safety net: whoever should have been woken and was not is woken now, a batch at a time; whom somebody
-- else has in hand is left to them. Returns how many were woken: with a full batch there may be more.
create function provisioner.wake_some(p_limit int) returns bigint
language plpgsql
as $$
declare
    v_tenant uuid;
    v_count bigint := 0;
begin
    for v_tenant in
        select t.tenant_id
        from tenant t
        left join catalog.tenant_claim c using (tenant_id)
        left join catalog.activity holds on holds.kind = c.kind
        where t.tenant_id in (select tenant_id from tenant_to_compare)
          and case
              when c.tenant_id is null then t.retry_done < t.retry_wanted or next_activity(t) is not null
              -- Who holds it is told once.
              when not holds.gives_way or c.way_wanted then false
              else next_activity(t) in (select kind from catalog.activity where urgent)
          end
        limit p_limit
        for update of t skip locked
    loop
        perform wake(v_tenant);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- For programs of the release before, which ask for everybody at once.
create or replace function provisioner.wake_all() returns bigint
language sql
as $$
    select wake_some(200)
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
