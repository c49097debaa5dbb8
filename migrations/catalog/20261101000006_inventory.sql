-- The janitor's report: what a provider has, held against what the catalog knows.
-- migrate:up
set local check_function_bodies = off;

-- What is there and differs from what we brought it to; null where it does not. Not while somebody works on it, nor
-- right after: what the provider showed may be older than what the catalog says.
create function provisioner.drift_of(d provisioner.database, p_server text, p_open boolean, p_status text) returns text
language sql stable
as $$
    select case
        when coalesce(d.server, '') <> p_server then format('the catalog has it on %s', d.server)
        when p_open <> (t.access_applied = 'full')
            then format('the app''s login is %s', case when p_open then 'open, access is none' else 'closed' end)
        when p_status is not null then format('the provider says %s', p_status)
    end
    from tenant t
    join catalog.tenant_status s using (tenant_id)
    where t.tenant_id = d.tenant_id
      and s.changed_at < clock_timestamp() - interval '15 seconds'
      and not exists (
          select from saga g
          where g.tenant_id = d.tenant_id
            and g.status in ('running', 'undoing'))
$$;

-- p_found: a list of {name, tenant_id?, generation?, cost?, open?, status?}, all that the provider showed a moment ago.
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
            when drift.detail is not null then 'drift'
            else 'ours'
        end,
        case
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

-- migrate:down
drop function provisioner.report_inventory, provisioner.drift_of;
