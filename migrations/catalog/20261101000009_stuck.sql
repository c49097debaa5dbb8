-- Work that does not come forward is told: a full quota or fleet waits for days without failing, and nobody would know.
-- migrate:up
set local check_function_bodies = off;

create function provisioner.watch_stuck() returns void
language sql
as $$
    select catalog.raise_alert('tenant-stuck:' || tenant_id, tenant_id, format('%s does not come forward', kind),
        format('at %s since %s: %s', step, catalog.json_time(step_since), coalesce(error ->> 'detail', 'no error is known')))
    from saga
    where status in ('running', 'undoing')
      and not (background and lease_until is null) -- long and patient work that waits for a worker is not stuck
      and step_since < catalog.business_now() - interval '30 minutes';

    select catalog.resolve_alert(a.cause)
    from gateway.alert a
    where a.cause like 'tenant-stuck:%'
      and a.resolved_at is null
      and not exists (
          select from saga s
          where s.tenant_id = a.tenant_id
            and s.status in ('running', 'undoing')
            and s.step_since < catalog.business_now() - interval '30 minutes');
$$;

grant usage on schema gateway to tenantry_provisioner;
grant select on gateway.alert to tenantry_provisioner;

-- migrate:down
revoke select on gateway.alert from tenantry_provisioner;
revoke usage on schema gateway from tenantry_provisioner;
drop function provisioner.watch_stuck;
