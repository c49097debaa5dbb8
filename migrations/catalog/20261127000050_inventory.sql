-- A server that is no longer named in TENANT_SERVERS is not looked at any more: what the janitor last saw there, under a name
-- that may be another's by now, was reported as drift for ever.
-- migrate:up
set local check_function_bodies = off;

create or replace function provisioner.sync_servers(p_servers jsonb) returns void
language sql
as $$
    update server set enabled = false where jsonb_array_length(p_servers) > 0;
    insert into server (name, region, capacity, tenant_host, tenant_port)
    select s ->> 'name', s ->> 'region', (s ->> 'capacity')::int, s ->> 'tenant_host', s ->> 'tenant_port'
    from jsonb_array_elements(p_servers) s
    on conflict (name) do update
        set region = excluded.region, capacity = excluded.capacity, tenant_host = excluded.tenant_host,
            tenant_port = excluded.tenant_port, enabled = true;
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
