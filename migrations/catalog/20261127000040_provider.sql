-- What the provider says is not believed without limit.
-- migrate:up

-- A wait of more than an hour is a number that was meant otherwise (an epoch, milliseconds): it would hold up everybody.
create or replace function catalog.block_budget(p_name text, p_ms bigint) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    c_most constant bigint := 3600000;
    v rate_budget;
    v_until timestamptz := clock_timestamp() + least(p_ms, c_most) * interval '1 ms';
begin
    select b.* into v from rate_budget r, settled_budget(r.name, r.capacity, r.per_second) b where r.name = p_name;
    if v.blocked_until < v_until then
        v.blocked := v.blocked + (v_until - greatest(clock_timestamp(), v.blocked_until));
        v.tokens := least(v.tokens, 0);
        v.refilled_at := v_until; -- nothing is refilled meanwhile
        v.front := v.front + (v_until - greatest(clock_timestamp(), v.blocked_until));
        v.blocked_until := v_until;
        perform save_budget(v);
    end if;
end
$$;

-- A secret that another system made, and has changed since, in the place of the stored one.
create function provisioner.renew_secret(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_secret jsonb)
returns jsonb
language plpgsql
as $$
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    insert into secret (tenant_id, field, generation, ring, sealed)
    values (p_tenant_id, p_secret ->> 'field', (p_secret ->> 'generation')::int, p_secret ->> 'ring',
            p_secret ->> 'sealed')
    on conflict (tenant_id, field, generation) do update
    set ring = excluded.ring, sealed = excluded.sealed;
    return saga_context(p_tenant_id);
end
$$;

grant execute on function provisioner.renew_secret to tenantry_provisioner;
revoke execute on function provisioner.renew_secret from public;

-- migrate:down
drop function provisioner.renew_secret;

create or replace function catalog.block_budget(p_name text, p_ms bigint) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v rate_budget;
    v_until timestamptz := clock_timestamp() + p_ms * interval '1 ms';
begin
    select b.* into v from rate_budget r, settled_budget(r.name, r.capacity, r.per_second) b where r.name = p_name;
    if v.blocked_until < v_until then
        v.blocked := v.blocked + (v_until - greatest(clock_timestamp(), v.blocked_until));
        v.tokens := least(v.tokens, 0);
        v.refilled_at := v_until; -- nothing is refilled meanwhile
        v.front := v.front + (v_until - greatest(clock_timestamp(), v.blocked_until));
        v.blocked_until := v_until;
        perform save_budget(v);
    end if;
end
$$;
