-- How a service moves in: its login is a member of tenantry_service (tenantry init sees to both), which may what every service
-- that works must; add_service gives it a schema and its tables. Beside that it brings, in its schema: accept_event(event,
-- data), lock_tenant(tenant), saga_context(tenant) and saga_ended(saga), and perhaps a view tenant_part.
-- migrate:up
set local check_function_bodies = off;

create function durable.add_service(p_service text) returns void
language plpgsql
as $$
begin
    execute format('create schema if not exists %I', p_service);
    execute format('grant usage on schema %I to %I', p_service, 'tenantry_' || p_service);
    perform durable.create_tables(p_service, 'tenantry_' || p_service);
end
$$;

grant usage on schema catalog, durable to tenantry_service;
grant select, insert, update on catalog.operation to tenantry_service;
grant select, insert, delete on catalog.tenant_claim, catalog.dead_letter, catalog.parked to tenantry_service;
grant update (way_wanted) on catalog.tenant_claim to tenantry_service;
grant select on catalog.activity, catalog.tenant_snapshot to tenantry_service;
grant execute on all functions in schema catalog, durable to tenantry_service;
revoke execute on function durable.create_tables, durable.add_service, catalog.add_snapshot_part
    from public, tenantry_service;

-- Everybody sees what was refused or waits; each service writes its own.
alter table catalog.dead_letter enable row level security;
create policy everybody_reads on catalog.dead_letter for select using (true);
create policy own_rows on catalog.dead_letter
    using (service = substr(current_user, length('tenantry_') + 1))
    with check (service = substr(current_user, length('tenantry_') + 1));
alter table catalog.parked enable row level security;
create policy everybody_reads on catalog.parked for select using (true);
create policy own_rows on catalog.parked
    using (service = substr(current_user, length('tenantry_') + 1))
    with check (service = substr(current_user, length('tenantry_') + 1));

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
