-- What the tests of rollouts through outages found missing.
-- migrate:up

-- What the tenant has from runs, as the catalog knows it: {version: run_id}. A server that falls back in time loses it together with
-- the tenant's own notes; whoever brings it again notes it anew, so that the run's rollback finds it.
create function catalog.migrations_brought(p_tenant_id uuid) returns jsonb
language sql stable security definer
set search_path = migrator, pg_temp
as $$
    select coalesce(jsonb_object_agg(version, run_id order by number), '{}')
    from (
        select unnest(j.brought) as version, j.run_id, r.number
        from job j
        join run r using (run_id)
        where j.tenant_id = p_tenant_id
    ) b
$$;
revoke execute on function catalog.migrations_brought from public, tenantry_service;
grant execute on function catalog.migrations_brought to tenantry_provisioner;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
