-- How many connections rollouts may have to a tenant server: 80 of 100 at most, less what provisioners have there just now, and half
-- as many for a while after it has refused one.
-- migrate:up
set local check_function_bodies = off;

create table migrator.server (
    server text primary key,
    connections int not null, -- that it has for those who are no superusers
    slots int not null, -- at the last refusal; one more for every two seconds since
    refused_at timestamptz not null default '-infinity'
);
grant select, insert, update, delete on migrator.server to tenantry_migrator;

-- Where provisioners are at work.
create view provisioner.saga_in_hand as
select s.tenant_id, d.server
from provisioner.saga s
join provisioner.tenant t using (tenant_id)
join provisioner.database d using (tenant_id, generation)
where s.status in ('running', 'undoing')
  and s.owner is not null
  and s.lease_until > statement_timestamp();
grant select on provisioner.saga_in_hand to tenantry_migrator;

-- How many more connections there may be to each server of which anything is known. spare: for what can wait; room: for a run, which
-- may always have one: neither provisioners nor a check for drift keep it from going on. probes: what has been taken of a run's looks.
create view migrator.server_room as
select s.server, x.spare, greatest(x.spare, 1 - coalesce(u.jobs, 0)) as room, coalesce(u.probes, 0) as probes
from migrator.server s
left join (
    select server, count(*)::int as in_use, count(*) filter (where what = 'job')::int as jobs,
        count(*) filter (where what = 'probe')::int as probes
    from (
        select f.server, 'job' as what
        from migrator.job j
        join provisioner.fleet f using (tenant_id)
        where j.state in ('forecasting', 'applying', 'undoing')
        union all
        select f.server, case when i.run_id is not null then 'probe' else 'drift' end
        from migrator.inspection i
        join provisioner.fleet f using (tenant_id)
        where i.attempts > 0
          and i.next_at > statement_timestamp()
        union all
        select server, 'saga' from provisioner.saga_in_hand
    ) c
    group by server
) u using (server)
cross join lateral (
    select case when s.refused_at > statement_timestamp() - interval '5 minutes'
            then least(greatest(1, s.connections * 4 / 5),
                       s.slots + floor(extract(epoch from statement_timestamp() - s.refused_at) / 2)::int)
            else greatest(1, s.connections * 4 / 5)
        end - coalesce(u.in_use, 0) as spare
) x;
grant select on migrator.server_room to tenantry_migrator;

-- What an attempt has learned about its tenant's server. Those that were on their way together when it refused count once.
create function migrator.note_server(p_tenant_id uuid, p_connections int, p_refused boolean) returns void
language plpgsql
as $$
declare
    v_server text;
begin
    if p_connections is null and p_refused is not true then
        return;
    end if;
    select server into v_server from provisioner.fleet where tenant_id = p_tenant_id;
    if v_server is null then
        return; -- a project of a provider's, which has a server to itself
    end if;
    if p_refused then
        insert into server (server, connections, slots) values (v_server, 100, 0) on conflict do nothing;
        update server s
        set slots = greatest(1, (select count(*)::int
                                 from job j
                                 join provisioner.fleet f using (tenant_id)
                                 where j.state in ('forecasting', 'applying', 'undoing')
                                   and f.server = v_server) / 2),
            refused_at = clock_timestamp()
        where s.server = v_server
          and s.refused_at < clock_timestamp() - interval '1 second';
    else
        insert into server as s (server, connections, slots)
        values (v_server, p_connections, 0)
        on conflict (server) do update set connections = excluded.connections where s.connections <> excluded.connections;
    end if;
end
$$;

-- As before, within the room that each server has.
create or replace function migrator.claim_jobs(p_owner text, p_lease_ms bigint, p_limit int)
returns table (job_id uuid, run_id uuid, tenant_id uuid, task text, fence bigint, attempts int,
               versions jsonb, brought jsonb, options jsonb, register text, tenant text, marked boolean)
language plpgsql
set lock_timeout = '500ms' -- a provisioner that takes the same tenants in another order goes first
as $$
declare
    v_run run;
    v_limit int;
begin
    -- One at a time, so that no two take what is left of its concurrency.
    select r.* into v_run from run r where r.state in ('forecasting', 'running', 'rolling_back') for no key update;
    if not found then
        return;
    end if;
    v_limit := least(p_limit, (v_run.options ->> 'concurrency')::int - (
        select count(*)::int from job j where j.state in ('forecasting', 'applying', 'undoing')));
    if v_limit <= 0 then
        return;
    end if;
    return query
    with known as materialized (
        select r.server, r.room from server_room r
    ), candidates as (
        select j.job_id, j.tenant_id, j.wave, j.next_at, j.place, f.tenant_id is not null as here, f.server, k.room
        from job j
        left join provisioner.fleet f on f.tenant_id = j.tenant_id
        left join known k on k.server = f.server
        where j.run_id = v_run.run_id
          and j.state in ('waiting', 'undo_waiting')
          and j.state = case v_run.state when 'rolling_back' then 'undo_waiting' else 'waiting' end
          and (v_run.state <> 'forecasting' or j.forecast is null)
          and j.wave <= v_run.wave
          and j.next_at <= statement_timestamp()
          and coalesce(k.room, v_limit) > 0
        order by j.wave, j.next_at, j.place
        limit v_limit
        for update of j skip locked
    ), due as (
        select n.job_id, n.tenant_id, n.here
        from (select x.*, row_number() over (partition by x.server order by x.wave, x.next_at, x.place) as nth from candidates x) n
        where n.nth <= coalesce(n.room, v_limit)
    ), gone as (
        update job j
        set state = 'left', waits_for = null, ended_at = clock_timestamp()
        from due d
        where j.job_id = d.job_id
          and not d.here
    ), claimed as (
        insert into catalog.tenant_claim as c (tenant_id, kind, holder)
        select d.tenant_id, 'migrate', d.job_id from due d where d.here
        on conflict do nothing
        returning c.tenant_id
    ), put_off as (
        update job j
        set next_at = clock_timestamp() + interval '1 second',
            waits_for = (select c.kind from catalog.tenant_claim c where c.tenant_id = j.tenant_id)
        from due d
        where j.job_id = d.job_id
          and d.here
          and d.tenant_id not in (select c.tenant_id from claimed c)
    )
    update job j
    set state = case v_run.state when 'forecasting' then 'forecasting' when 'running' then 'applying' else 'undoing' end,
        owner = p_owner,
        lease_until = clock_timestamp() + p_lease_ms * interval '1 ms',
        fence = catalog.next_fence(),
        attempts = j.attempts + 1,
        waits_for = null,
        began_at = coalesce(j.began_at, clock_timestamp())
    from due d
    join claimed using (tenant_id)
    where j.job_id = d.job_id
    returning j.job_id, j.run_id, j.tenant_id, j.state, j.fence, j.attempts,
        to_jsonb(v_run.versions), to_jsonb(j.brought), v_run.options, (select state::text from register),
        (select login::text from provisioner.owner_login o where o.tenant_id = j.tenant_id), j.marked is not null;
end
$$;

-- As before, whatever the planner thought of the table when it was empty; those of a run that was cancelled meanwhile are not claimed
-- again, and it tells that they have ended.
create or replace function migrator.reap_jobs() returns void
language plpgsql
as $$
declare
    v record;
begin
    for v in
        with lost as materialized (
            select job_id
            from job
            where state in ('forecasting', 'applying', 'undoing')
              and lease_until < clock_timestamp()
            for update skip locked
        )
        update job j
        set state = case when j.state = 'undoing' then 'undo_waiting' when n.ended_at is null then 'waiting' else 'left' end,
            in_doubt = j.in_doubt or j.state <> 'forecasting',
            owner = null, lease_until = null, fence = null, next_at = clock_timestamp(),
            ended_at = case when n.ended_at is not null then clock_timestamp() end
        from lost l, run n
        where j.job_id = l.job_id
          and n.run_id = j.run_id
        returning j.tenant_id, j.job_id, j.run_id, n.ended_at is not null as ended_run
    loop
        perform catalog.claim_release(v.tenant_id, v.job_id);
        if v.ended_run then
            perform recount_run(v.run_id);
        end if;
    end loop;
end
$$;

-- As before, with what attempts learn about servers; tenants in an order that all keep to.
create or replace function migrator.end_jobs(p_results jsonb) returns void
language plpgsql
as $$
declare
    v record;
    v_state text;
begin
    for v in
        select j.*, r.outcome, r.forecast as foreseen, r.brought as has_brought, r.versions, r.unsure, r.error as failure, r.delay_ms,
            r.connections,
            n.target, n.event, n.state as run_state, n.ended_at is not null as ended_run
        from jsonb_to_recordset(p_results) r (job_id uuid, fence bigint, outcome text, forecast text, brought jsonb, versions jsonb,
                                              unsure boolean, error jsonb, delay_ms bigint, connections int)
        join job j on j.job_id = r.job_id
            and j.fence = r.fence
            and j.state in ('forecasting', 'applying', 'undoing')
        join run n on n.run_id = j.run_id
        order by j.tenant_id
        for update of j
    loop
        perform note_server(v.tenant_id, v.connections, v.failure ->> 'code' = 'too_many_connections');
        v_state := case
            when v.state = 'forecasting' then 'waiting'
            when v.outcome = 'done' then case v.state when 'applying' then 'done' else 'undone' end
            when v.outcome = 'failed' then case v.state when 'applying' then 'failed' else 'undo_failed' end
            else case v.state when 'applying' then 'waiting' else 'undo_waiting' end
        end;
        if v_state = 'waiting' and v.ended_run then -- for nobody
            v_state := 'left';
        end if;
        update job
        set state = v_state,
            brought = array(select jsonb_array_elements_text(v.has_brought)),
            in_doubt = in_doubt or coalesce(v.unsure, false),
            attempts = case when v.foreseen is not null then 0 else attempts - (v.outcome = 'given_way')::int end,
            next_at = clock_timestamp() + coalesce(v.delay_ms, 0) * interval '1 ms',
            forecast = coalesce(v.foreseen, forecast, case when v.state = 'forecasting' and v.run_state = 'running' then 'skipped' end),
            forecast_error = case when v.foreseen is not null then v.failure else forecast_error end,
            error = case when v.foreseen is null then v.failure end,
            owner = null, lease_until = null, fence = null,
            ended_at = case when v_state in ('done', 'failed', 'undone', 'undo_failed', 'left') then clock_timestamp() end
        where job_id = v.job_id;
        perform catalog.claim_release(v.tenant_id, v.job_id);
        if v_state in ('done', 'failed', 'undone', 'undo_failed') then
            if v.versions is not null then -- with the change that watchers are told of, not before
                perform catalog.record_ledger(v.tenant_id, v.versions);
                update job set in_doubt = false where tenant_id = v.tenant_id and in_doubt;
            end if;
            insert into tenant (tenant_id, state, run_id, target, error)
            values (v.tenant_id, case v_state when 'done' then 'current' when 'undone' then 'rolled_back' else 'failed' end,
                v.run_id, v.target, v.failure)
            on conflict (tenant_id) do update
                set state = excluded.state, run_id = excluded.run_id, target = excluded.target, error = excluded.error,
                    changed_at = clock_timestamp();
            perform catalog.record_change(v.tenant_id, 'tenant.activity.finished.v1',
                jsonb_build_object('activity', 'migrate', 'outcome', case when v.outcome = 'done' then 'done' else 'failed' end,
                                   'error', v.failure),
                v.event ->> 'id', v.event ->> 'traceparent');
        end if;
        if v.ended_run then -- it was cancelled while this job was in hand
            perform recount_run(v.run_id);
        end if;
    end loop;
end
$$;

grant execute on all functions in schema migrator to tenantry_migrator;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
