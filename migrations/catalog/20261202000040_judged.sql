-- What the tests of rollouts through outages found missing.
-- migrate:up
set local check_function_bodies = off;

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

-- As before, and once more where it was done already: a tenant server that has fallen back in time since may have lost it. The tenant's
-- own ledger is asked, also of one who had left the fleet at the last time.
create or replace function migrator.begin_rollback(p_run_id uuid, p_code text, p_detail text) returns void
language plpgsql
as $$
declare
    v_again text[] := case when (select state = 'rolled_back' from run where run_id = p_run_id) then '{undone,left}' else '{}' end;
begin
    update file f
    set rolled_out = false
    where rolled_out
      and version = any (array(select unnest(brought) from job where run_id = p_run_id))
      and not exists (select from run r where r.state = 'completed' and r.run_id <> p_run_id and r.versions @> array[f.version]);
    update job
    set state = case when brought <> '{}' or in_doubt or state = any (v_again) then 'undo_waiting' else 'left' end,
        attempts = 0, next_at = clock_timestamp(), error = null,
        ended_at = case when brought <> '{}' or in_doubt or state = any (v_again) then null else clock_timestamp() end
    where run_id = p_run_id
      and (state = 'waiting'
           or (state = any (v_again) and began_at is not null)
           or (state in ('done', 'failed', 'undo_failed', 'left') and (brought <> '{}' or in_doubt)));
    perform set_run_state(p_run_id, 'rolling_back', p_code, p_detail);
end
$$;

-- As before; but nobody who has left the fleet, from whom nothing can be taken back. And a later one that was rolled back, if a server
-- has lost that too: what it brought stands on what this one did.
create or replace function migrator.stands_on(p_run migrator.run) returns bigint
language sql stable
as $$
    select max(r.number)
    from run r
    where r.run_id <> p_run.run_id
      and (r.state in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back')
           or (r.number > p_run.number
               and (r.state = 'queued'
                    or exists (select from job j
                               join provisioner.fleet f using (tenant_id)
                               where j.run_id = r.run_id
                                 and (j.brought <> '{}' or j.in_doubt))
                    or (r.state = 'rolled_back'
                        and exists (select from job j
                                    join provisioner.fleet f using (tenant_id)
                                    join tenant t using (tenant_id)
                                    join ledger l using (ledger_id)
                                    where j.run_id = r.run_id
                                      and j.state = 'undone'
                                      and l.versions && array(select v from unnest(r.versions) v where v <> all (p_run.versions)))))))
$$;

-- As before; and who is getting it at this moment from a run that was cancelled: only of the run at work a file is not changed anyhow.
create or replace function migrator.tenants_with(p_version text) returns uuid[]
language sql stable
as $$
    select array(
        select f.tenant_id
        from ledger l
        join tenant t using (ledger_id)
        join provisioner.fleet f using (tenant_id)
        where l.versions @> array[p_version]
        union
        select f.tenant_id
        from provisioner.fleet f
        join file last on last.version = f.schema_version
        left join tenant t using (tenant_id)
        where t.ledger_id is null
          and last.name collate "C" >= (select name from file where version = p_version)
        union
        select f.tenant_id
        from job j
        join run r using (run_id)
        join provisioner.fleet f using (tenant_id)
        where (j.in_doubt or (j.state = 'applying' and r.ended_at is not null))
          and r.versions @> array[p_version])
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
