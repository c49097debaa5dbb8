-- A tenant whose database was restored has the schema that its backup had: it is brought to that of new tenants before anything else.
-- Its old ledger stood in the catalog until now, and runs passed the tenant over.
-- migrate:up
set local check_function_bodies = off;

grant execute on function catalog.record_ledger to tenantry_provisioner;

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
        verify_wanted = case when verify_wanted = verify_done then verify_wanted + 1 else verify_wanted end,
        lifecycle_wanted = case when state = 'archived' and lifecycle_wanted = 'archived' then 'live'
                                else lifecycle_wanted end
    where tenant_id = p_tenant_id
    returning * into v;
    update database
    set status = 'live'
    where tenant_id = p_tenant_id
      and generation = v.generation;
    perform catalog.record_ledger(p_tenant_id, null); -- nobody knows until it has been read
    if v.state = 'archived' then
        perform set_state(p_tenant_id, 'provisioning', null, null);
    end if;
    return saga_context(p_tenant_id);
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
