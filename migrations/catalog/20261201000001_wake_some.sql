-- PostgreSQL 17 looked at every tenant to find the few that need something.
-- migrate:up
set local check_function_bodies = off;

-- As it was, but each tenant to compare is looked up by itself: the planner took the view for most of the fleet.
create or replace function provisioner.wake_some(p_limit int) returns bigint
language plpgsql
as $$
declare
    v_tenant uuid;
    v_count bigint := 0;
begin
    for v_tenant in
        select due.tenant_id
        from tenant_to_compare compared
        cross join lateral (
            select t.tenant_id
            from tenant t
            left join catalog.tenant_claim c using (tenant_id)
            left join catalog.activity holds on holds.kind = c.kind
            where t.tenant_id = compared.tenant_id
              and case
                  when c.tenant_id is null then t.retry_done < t.retry_wanted or next_activity(t) is not null
                  -- Who holds it is told once.
                  when not holds.gives_way or c.way_wanted then false
                  else next_activity(t) in (select kind from catalog.activity where urgent)
              end
            for update of t skip locked
        ) due
        limit p_limit
    loop
        perform wake(v_tenant);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
