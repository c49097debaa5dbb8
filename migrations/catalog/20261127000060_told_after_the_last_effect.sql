-- A suspension was told as succeeded while the activity of an earlier resume was at work: nothing differed yet, and a moment
-- later the tenant was open again. What is told is what was read back when nobody is at it any more.
-- migrate:up
set local check_function_bodies = off;

-- One after the other, each by its key, whatever the statistics say: there are few open ones or very many.
create or replace function provisioner.settle_operations(p_tenant_id uuid) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v tenant;
    v_reached boolean;
    v_settled boolean; -- nobody is about to open or close it
    v_operation record;
begin
    select * into v from tenant where tenant_id = p_tenant_id;
    v_settled := v.state = 'ready' and v.access_applied = catalog.wanted_access(p_tenant_id) and not exists (
        select from catalog.tenant_claim
        where tenant_id = p_tenant_id
          and kind = 'access');
    for v_operation in
        select operation_id, kind, target
        from catalog.operation
        where tenant_id = p_tenant_id
          and service = 'provisioner'
          and state = 'accepted'
    loop
        v_reached := case v_operation.kind
            when 'signup' then v.state = 'ready'
            when 'suspend' then v_settled
            when 'resume' then v_settled
            when 'archive' then v.state = 'archived'
            when 'deprovision' then v.state = 'deprovisioned'
            when 'rotate_credentials' then v.rotation_applied >= v_operation.target
            when 'backup' then v.backup_done >= v_operation.target
            when 'resend_invite' then v.invite_sent >= v_operation.target
            when 'invite_link' then v.link_made >= v_operation.target
            when 'retry' then v.state in ('ready', 'archived', 'deprovisioned')
                and v.retry_done >= coalesce(v_operation.target, 0)
            else false
        end;
        if v_reached or v.state = 'deprovisioned' or (v.state = 'archived' and v_operation.kind <> 'deprovision') then
            update catalog.operation
            set state = case
                    when kind in ('suspend', 'resume') and target < (
                        select version from catalog.access_wanted
                        where tenant_id = p_tenant_id and source = 'operator') then 'superseded'
                    when v_reached then 'succeeded'
                    else 'superseded'
                end,
                finished_at = clock_timestamp()
            where operation_id = v_operation.operation_id
              and state = 'accepted';
        end if;
    end loop;
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
