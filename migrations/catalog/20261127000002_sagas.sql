-- Sagas and claims for any service: what gives way to what in one table of activities, claims for any holder, and sagas
-- that wait for us, whose hindrance is nobody's failure.
-- migrate:up
set local check_function_bodies = off;

-- The kinds of work on a tenant, one row each; a service adds its own. At most one of them is at work on a tenant.
create table catalog.activity (
    kind text primary key,
    service text not null,
    first_step text, -- of its saga; null for work that is no saga
    urgent boolean not null default false, -- what can wait gives way to it
    gives_way boolean not null default false, -- begun again afterwards
    background boolean not null default false, -- long and patient: gets half of the workers at most
    blocks boolean not null default false, -- its failure leaves the tenant to a person; else the tenant works as before
    operations text[] not null default '{}' -- the operations that fail with it
);
grant select on catalog.activity to tenantry_gateway, tenantry_provisioner, tenantry_migrator, tenantry_billing;

insert into catalog.activity (kind, service, first_step, urgent, gives_way, background, blocks, operations)
values
    ('provision', 'provisioner', 'reserve', false, false, false, true, '{signup,retry}'),
    ('deprovision', 'provisioner', 'close', true, false, false, true, '{deprovision,retry}'),
    ('archive', 'provisioner', 'close', true, false, false, true, '{archive,retry}'),
    ('access', 'provisioner', 'apply', true, false, false, true, '{suspend,resume,retry}'),
    ('rotate', 'provisioner', 'set_login', false, true, false, false, '{rotate_credentials}'),
    ('retire', 'provisioner', 'end_old', false, true, false, false, '{}'),
    ('backup', 'provisioner', 'dump', false, true, true, false, '{backup}'),
    ('invite', 'provisioner', 'send', false, true, false, false, '{resend_invite}'),
    ('link', 'provisioner', 'make', false, true, false, false, '{invite_link}');

-- The holder's service sees that something urgent waits for the tenant, and lets go of it soon.
alter table catalog.tenant_claim add column way_wanted boolean not null default false;
grant update (way_wanted) on catalog.tenant_claim to tenantry_provisioner, tenantry_migrator;

-- Takes the tenant for a durable row of the caller's (a saga, a job): true, or false while another holds it, who is told
-- where it should give way. The claim lives until claim_release.
create function catalog.claim_take(p_tenant_id uuid, p_kind text, p_holder uuid) returns boolean
language plpgsql
as $$
begin
    insert into catalog.tenant_claim (tenant_id, kind, holder)
    values (p_tenant_id, p_kind, p_holder)
    on conflict do nothing;
    if found then
        return true;
    end if;
    update catalog.tenant_claim c
    set way_wanted = true
    from catalog.activity holds, catalog.activity wants
    where c.tenant_id = p_tenant_id
      and not c.way_wanted
      and holds.kind = c.kind
      and holds.gives_way
      and wants.kind = p_kind
      and wants.urgent;
    return exists (select from catalog.tenant_claim where tenant_id = p_tenant_id and holder = p_holder);
end
$$;

create function catalog.claim_release(p_tenant_id uuid, p_holder uuid) returns void
language sql
as $$
    delete from catalog.tenant_claim
    where tenant_id = p_tenant_id
      and holder = p_holder
$$;

-- Ends the alerts whose cause is like p_like and not among those that go on.
create function catalog.resolve_alerts(p_like text, p_going_on text[]) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update alert
    set resolved_at = clock_timestamp()
    where resolved_at is null
      and cause like p_like
      and cause <> all (p_going_on)
$$;

revoke execute on function catalog.claim_take, catalog.claim_release, catalog.resolve_alerts from public;
grant execute on function catalog.claim_take, catalog.claim_release, catalog.resolve_alerts
    to tenantry_provisioner, tenantry_migrator, tenantry_billing;

-- Sagas that wait for us.
alter table provisioner.saga add column held_for text; -- what must be mended before it goes on
create index saga_held on provisioner.saga (held_for) where held_for is not null;
create index saga_slow on provisioner.saga (step_since) where status in ('running', 'undoing');

-- As before, but by an index: with thousands of sagas that wait for later, a claim looked at all of them.
create or replace function durable.saga_claim(
    p_owner text,
    p_kinds text[],
    p_held uuid[],
    p_lease_ms bigint,
    p_limit int,
    p_background int
)
returns table (
    saga_id uuid, tenant_id uuid, kind text, step text, status text, attempt int, crashes int, fence bigint, data jsonb,
    step_age_ms bigint, cancel_wanted boolean, background boolean, error jsonb, context jsonb
)
language sql
as $$
    with prompt as (
        select d.saga_id
        from saga d
        where d.status in ('running', 'undoing')
          and not d.background
          and d.next_at <= statement_timestamp()
          and not d.saga_id = any (p_held)
          and (d.lease_until is null or d.lease_until < clock_timestamp() or d.owner = p_owner)
          and d.kind || '/' || d.step = any (p_kinds)
        order by d.next_at
        limit p_limit
        for update skip locked
    ), patient as (
        select d.saga_id
        from saga d
        where d.status in ('running', 'undoing')
          and d.background
          and d.next_at <= statement_timestamp()
          and not d.saga_id = any (p_held)
          and (d.lease_until is null or d.lease_until < clock_timestamp() or d.owner = p_owner)
          and d.kind || '/' || d.step = any (p_kinds)
        order by d.next_at
        limit greatest(0, least(p_background, p_limit - (select count(*) from prompt)))
        for update skip locked
    )
    update saga s
    set owner = p_owner,
        lease_until = clock_timestamp() + p_lease_ms * interval '1 ms',
        crashes = s.crashes + (s.lease_until is not null and s.owner <> p_owner)::int,
        fence = catalog.next_fence()
    from (select saga_id from prompt union all select saga_id from patient) due
    where s.saga_id = due.saga_id
    returning s.saga_id, s.tenant_id, s.kind, s.step, s.status, s.attempt, s.crashes, s.fence, s.data,
        (extract(epoch from catalog.business_now() - s.step_since) * 1000)::bigint, s.cancel_wanted, s.background, s.error,
        saga_context(s.tenant_id)
$$;

create or replace function durable.saga_backlog() returns table (due bigint, oldest_seconds double precision)
language sql
as $$
    select count(*), coalesce(extract(epoch from statement_timestamp() - min(next_at)), 0)
    from saga
    where status in ('running', 'undoing')
      and next_at <= statement_timestamp()
      and lease_until is null
$$;

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
      and status in ('running', 'undoing')
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
      and status in ('running', 'undoing')
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

-- Puts a saga down because of something of ours (a refused token, a right that is missing). The step's time begins anew
-- when it goes on, for what nobody could work on is not late. p_data: null leaves what is stored.
create function durable.saga_hold(
    p_saga_id uuid,
    p_fence bigint,
    p_data jsonb,
    p_delay_ms bigint,
    p_error jsonb,
    p_cancel_known boolean,
    p_cause text
) returns void
language plpgsql
as $$
begin
    perform saga_park(p_saga_id, p_fence, coalesce(p_data, (select data from saga where saga_id = p_saga_id)), p_delay_ms,
        true, p_error, p_cancel_known);
    update saga
    set held_for = p_cause,
        step_since = catalog.business_now()
    where saga_id = p_saga_id;
    perform catalog.raise_alert(format('held:%s:%s', current_schema(), p_cause), null,
        'work waits until something of ours is mended', coalesce(p_error ->> 'detail', 'no error is known'));
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
      and status in ('running', 'undoing')
    returning * into v;
    if not found then
        raise exception 'the saga was taken over' using errcode = 'TN409';
    end if;
    perform catalog.claim_release(v.tenant_id, v.saga_id);
    perform saga_ended(v.saga_id);
end
$$;

-- Work that does not come forward is told: a full quota or fleet waits for days without failing, and nobody would know.
-- What is held has an alert of its own.
drop function provisioner.watch_stuck;
create function durable.watch_stuck() returns void
language plpgsql
as $$
declare
    v_stuck text[];
    v record;
begin
    for v in
        select tenant_id, kind, step, step_since, error ->> 'detail' as detail
        from saga
        where status in ('running', 'undoing')
          and held_for is null
          and not (background and lease_until is null) -- long and patient work that waits for a worker is not stuck
          and step_since < catalog.business_now() - interval '30 minutes'
        order by step_since
        limit 1000
    loop
        v_stuck := v_stuck || format('tenant-stuck:%s:%s', v.tenant_id, v.kind);
        perform catalog.raise_alert(format('tenant-stuck:%s:%s', v.tenant_id, v.kind), v.tenant_id,
            format('%s does not come forward', v.kind),
            format('at %s since %s: %s', v.step, catalog.json_time(v.step_since),
                   coalesce(v.detail, 'no error is known')));
    end loop;
    perform catalog.resolve_alerts('tenant-stuck:%:' || kind, coalesce(v_stuck, '{}'))
    from catalog.activity
    where service = current_schema();
    perform catalog.resolve_alerts(format('held:%s:%%', current_schema()), array(
        select distinct format('held:%s:%s', current_schema(), held_for)
        from saga
        where held_for is not null));
end
$$;

update catalog.alert
set resolved_at = clock_timestamp()
where cause like 'tenant-stuck:%'
  and resolved_at is null; -- those that go on are told again under their new name

grant execute on function durable.saga_hold, durable.watch_stuck
    to tenantry_provisioner, tenantry_migrator, tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
