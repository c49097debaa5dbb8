-- How many databases a server has is counted when one comes or goes. Placing a tenant counted all of every server, under the one
-- lock that all who place take.
-- migrate:up
set local check_function_bodies = off;

alter table provisioner.server add column placed int not null default 0;
update provisioner.server s
set placed = (select count(*) from provisioner.database d where d.server = s.name and d.status <> 'deleted');

create function provisioner.count_placed() returns trigger
language plpgsql
as $$
begin
    if tg_op <> 'INSERT' and old.status <> 'deleted' then
        update provisioner.server set placed = placed - 1 where name = old.server;
    end if;
    if tg_op <> 'DELETE' and new.status <> 'deleted' then
        update provisioner.server set placed = placed + 1 where name = new.server;
    end if;
    return null;
end
$$;
create trigger database_comes_or_goes
    after insert or delete on provisioner.database
    for each row execute function provisioner.count_placed();
create trigger database_moves
    after update of server, status on provisioner.database
    for each row
    when ((old.server, old.status <> 'deleted') is distinct from (new.server, new.status <> 'deleted'))
    execute function provisioner.count_placed();

create or replace function provisioner.reserve(
    p_saga_id uuid,
    p_fence bigint,
    p_tenant_id uuid,
    p_name text,
    p_app_login text,
    p_owner_login text,
    p_secrets jsonb
) returns jsonb
language plpgsql
as $$
declare
    v tenant;
    v_known database;
    v_server server;
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    select * into v from tenant where tenant_id = p_tenant_id for update;
    select * into v_known from database where tenant_id = p_tenant_id and generation = v.generation;
    -- Again where it was given up: the tenant was found elsewhere, perhaps in the same generation.
    if v_known.tenant_id is null or v_known.status = 'deleted' then
        if v.driver = 'postgres' then
            perform pg_advisory_xact_lock(hashtextextended('tenantry placement', 0));
            select s.* into v_server
            from server s
            where s.enabled
              and case when v.home_server is not null then s.name = v.home_server else s.placed < s.capacity end
              and (v.region is null or s.region is null or s.region = v.region or s.name = v.home_server)
            order by s.placed::float / greatest(s.capacity, 1), s.name
            limit 1;
            if not found and v.region is not null
                and not exists (select from server s where s.enabled and (s.region is null or s.region = v.region)) then
                return jsonb_build_object('unknown_region', v.region, 'regions',
                    (select coalesce(string_agg(distinct s.region, ', '), 'none') from server s where s.enabled));
            elsif not found then
                return null;
            end if;
        end if;
        insert into database (tenant_id, generation, driver, server, name, dbname, host, port, region, owner_login,
                              app_login)
        values (p_tenant_id, v.generation, v.driver, v_server.name, p_name,
                case when v.driver = 'postgres' then p_name end, v_server.tenant_host, v_server.tenant_port,
                coalesce(v_server.region, v.region), p_owner_login, p_app_login)
        on conflict (tenant_id, generation) do update
            set server = excluded.server, host = excluded.host, port = excluded.port, region = excluded.region,
                status = 'reserved', reservation = gen_random_uuid(), adopted = false, created_at = clock_timestamp();
        insert into secret (tenant_id, field, generation, ring, sealed)
        select p_tenant_id, s ->> 'field', (s ->> 'generation')::int, s ->> 'ring', s ->> 'sealed'
        from jsonb_array_elements(p_secrets) s
        on conflict (tenant_id, field, generation) do nothing;
    end if;
    return saga_context(p_tenant_id);
end
$$;

-- Counts anew: databases may have been known of a server before the server was.
create or replace function provisioner.sync_servers(p_servers jsonb) returns void
language sql
as $$
    lock table server in share row exclusive mode; -- what is being placed or given up is counted before or after, not twice
    update server set enabled = false where jsonb_array_length(p_servers) > 0;
    insert into server (name, region, capacity, tenant_host, tenant_port)
    select s ->> 'name', s ->> 'region', (s ->> 'capacity')::int, s ->> 'tenant_host', s ->> 'tenant_port'
    from jsonb_array_elements(p_servers) s
    on conflict (name) do update
        set region = excluded.region, capacity = excluded.capacity, tenant_host = excluded.tenant_host,
            tenant_port = excluded.tenant_port, enabled = true;
    update server s
    set placed = n.databases
    from (select c.name, (select count(*) from database d where d.server = c.name and d.status <> 'deleted') as databases
          from server c) n
    where n.name = s.name
      and n.databases <> s.placed;
    -- A server that moved (or its standby that took over) takes its tenants along.
    update database d
    set host = s.tenant_host, port = s.tenant_port
    from server s
    where d.server = s.name
      and d.status <> 'deleted'
      and (d.host, d.port) is distinct from (s.tenant_host, s.tenant_port);
    select catalog.resolve_alert('inventory:postgres:' || name) from server where not enabled;
    delete from inventory i
    using server s
    where i.driver = 'postgres'
      and i.server = s.name
      and not s.enabled;
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
