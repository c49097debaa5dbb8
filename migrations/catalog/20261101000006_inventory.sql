-- The janitor's report: what a provider has, held against what the catalog knows.
-- migrate:up
set local check_function_bodies = off;

-- p_found: a list of {name, tenant_id?, generation?, cost?}, all that the provider showed a moment ago.
create function provisioner.report_inventory(p_driver text, p_server text, p_found jsonb) returns void
language plpgsql
as $$
declare
    v_wrong int;
begin
    delete from inventory
    where driver = p_driver
      and server = p_server;

    insert into inventory (driver, server, name, tenant_id, generation, verdict, detail, monthly_cost_cents)
    select p_driver, p_server, f.name, coalesce(d.tenant_id, f.tenant_id), coalesce(d.generation, f.generation),
        case
            when d.name is null then 'orphan'
            when d.status = 'quarantined' then 'quarantined'
            when d.status = 'deleted' then 'orphan'
            else 'ours'
        end,
        case
            when d.name is null then 'no tenant knows it'
            when d.status = 'quarantined' then 'was replaced; waits to be deleted'
            when d.status = 'deleted' then 'should have been deleted'
            else ''
        end,
        coalesce(f.cost, 0)
    from jsonb_to_recordset(p_found) f (name text, tenant_id uuid, generation int, cost int)
    left join database d
        on d.name = f.name
        and d.driver = p_driver
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
            format('%s of %s %s are orphans or ghosts; see: tenantry inventory', v_wrong, p_driver, p_server));
    else
        perform catalog.resolve_alert(format('inventory:%s:%s', p_driver, p_server));
    end if;
end
$$;

-- migrate:down
drop function provisioner.report_inventory;
