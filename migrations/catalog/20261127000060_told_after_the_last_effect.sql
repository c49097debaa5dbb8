-- A suspension was told as succeeded while the activity of an earlier resume was at work: nothing differed yet, and a moment
-- later the tenant was open again. What is told is what was read back when nobody is at it any more.
-- migrate:up
set local check_function_bodies = off;

create or replace function provisioner.settle_operations(p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    update catalog.operation o
    set state = case
            when o.kind in ('suspend', 'resume') and o.target < w.version then 'superseded'
            when r.reached then 'succeeded'
            else 'superseded'
        end,
        finished_at = clock_timestamp()
    from tenant t
    left join catalog.access_wanted w
        on w.tenant_id = t.tenant_id
        and w.source = 'operator',
    lateral (
        select exists (
            select from catalog.tenant_claim c
            where c.tenant_id = t.tenant_id
              and c.kind = 'access'
        ) as changes
    ) busy,
    lateral (
        select case k.kind
            when 'signup' then t.state = 'ready'
            when 'suspend' then t.state = 'ready' and t.access_applied = catalog.wanted_access(t.tenant_id) and not busy.changes
            when 'resume' then t.state = 'ready' and t.access_applied = catalog.wanted_access(t.tenant_id) and not busy.changes
            when 'archive' then t.state = 'archived'
            when 'deprovision' then t.state = 'deprovisioned'
            when 'rotate_credentials' then t.rotation_applied >= k.target
            when 'backup' then t.backup_done >= k.target
            when 'resend_invite' then t.invite_sent >= k.target
            when 'invite_link' then t.link_made >= k.target
            when 'retry' then t.state in ('ready', 'archived', 'deprovisioned') and t.retry_done >= coalesce(k.target, 0)
            else false
        end as reached,
        k.operation_id
        from catalog.operation k
        where k.tenant_id = t.tenant_id
          and k.service = 'provisioner'
          and k.state = 'accepted'
    ) r
    where t.tenant_id = p_tenant_id
      and o.operation_id = r.operation_id
      and (r.reached or t.state = 'deprovisioned' or (t.state = 'archived' and o.kind <> 'deprovision'));
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
