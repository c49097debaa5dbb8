-- What products ask for most often is planned once in a session: that took six times as long as all that was done. And a body is
-- compressed by the quicker of PostgreSQL's two ways, where it has both.
-- migrate:up
-- As before; who has cancelled is told when access ends. why: operator, archived, or the subscription's reason or status.
create or replace view gateway.entitlements as
select r.tenant_id,
    jsonb_build_object('tenant_id', r.tenant_id, 'plan', t.entitled -> 'plan', 'modules', coalesce(t.entitled -> 'modules', '[]'),
        'limits', coalesce(t.entitled -> 'limits', '{}'), 'over', coalesce(t.entitled -> 'over', '[]'), 'usage', t.usage,
        'access', case when a.why is null then 'full' else 'none' end,
        'why', coalesce(a.why, t.subscription ->> 'reason', t.subscription ->> 'status', 'not_billed'),
        'until', case when a.why is null then coalesce(t.subscription -> 'access_until',
            case when t.subscription ->> 'reason' is distinct from 'override' then t.subscription -> 'cancel_at' end) end,
        'subscription', billing.told(t.subscription)) as item
from gateway.tenant_row r
left join billing.tenant t using (tenant_id)
cross join lateral (
    select case
        when r.state in ('archived', 'deprovisioned') or t.lifecycle <> 'live' then 'archived'
        when exists (select from catalog.access_wanted w
                     where w.tenant_id = r.tenant_id and w.source = 'operator' and w.wanted = 'none') then 'operator'
        when t.access = 'none' then coalesce(t.subscription ->> 'reason', t.subscription ->> 'status', 'cancelled')
    end as why
) a;

-- Of one tenant; none: there is no such tenant.
create function gateway.entitlements_of(p_tenant_id uuid) returns setof jsonb
language plpgsql stable
as $$
begin
    return query select e.item from gateway.entitlements e where e.tenant_id = p_tenant_id;
end
$$;
revoke execute on function gateway.entitlements_of from public;
grant execute on function gateway.entitlements_of to tenantry_gateway;

do $$
begin
    alter table billing.object alter column body set compression lz4;
exception
    when feature_not_supported then
        null; -- this PostgreSQL was built without it
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
