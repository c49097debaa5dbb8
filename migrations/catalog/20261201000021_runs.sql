-- Rollouts: a run brings files to the fleet in waves. Its jobs, one a tenant, are rows that workers claim in batches; what it does
-- next is computed from them by advance(), which any process may call at any time.
-- migrate:up
set local check_function_bodies = off;

select catalog.add_snapshot_topic('migration.runs.v1', 'migrator');

create table migrator.run (
    run_id uuid primary key,
    number bigint generated always as identity, -- in the order in which they were accepted
    state text not null check (state in ('queued', 'forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back',
                                         'completed', 'rolled_back', 'cancelled')),
    state_since timestamptz not null default clock_timestamp(),
    reason jsonb, -- {code, detail}: why it is in this state
    target text not null,
    versions text[] not null, -- of the files up to the target, in their order
    options jsonb not null, -- with the defaults
    wave int not null default 1,
    waves int not null,
    soak_until timestamptz, -- business time
    watched_at timestamptz, -- real time: when somebody last looked
    forgiven int not null default 0, -- failures that an operator has seen and gone on from
    event jsonb not null, -- id, source, traceparent
    counts jsonb, -- of a run that has ended: nobody counts its jobs again
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz
);
-- One at a time: whoever would start a second one fails here.
create unique index run_active on migrator.run ((true)) where state in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back');
create index run_queued on migrator.run (number) where state = 'queued';
create unique index run_number on migrator.run (number);

create table migrator.job (
    job_id uuid primary key default gen_random_uuid(),
    run_id uuid not null references migrator.run,
    tenant_id uuid not null,
    wave int not null,
    place bigint not null, -- within the run
    state text not null check (state in ('waiting', 'forecasting', 'applying', 'done', 'failed', 'current', 'left', 'tried',
                                         'undo_waiting', 'undoing', 'undone', 'undo_failed')),
    forecast text check (forecast in ('passed', 'failed', 'busy', 'untried')), -- of its wave, just before it
    forecast_error jsonb,
    brought text[] not null default '{}', -- the versions that the tenant has from this run
    in_doubt boolean not null default false, -- an attempt was lost: it may have brought something
    attempts int not null default 0,
    next_at timestamptz not null default clock_timestamp(),
    owner text,
    lease_until timestamptz,
    fence bigint,
    waits_for text, -- another activity on the tenant
    marked jsonb, -- {by, reason}: somebody has done by hand what the files say
    error jsonb,
    began_at timestamptz,
    ended_at timestamptz,
    unique (run_id, tenant_id)
);
create index job_due on migrator.job (run_id, wave, next_at, place) where state in ('waiting', 'undo_waiting');
create index job_in_hand on migrator.job (lease_until) where state in ('forecasting', 'applying', 'undoing');
create index job_counted on migrator.job (run_id, wave, state);
create index job_forecast on migrator.job (run_id, forecast) where forecast is not null;
create index job_in_order on migrator.job (run_id, place);
create index job_of_tenant on migrator.job (tenant_id);
create index job_in_doubt on migrator.job (tenant_id) where in_doubt;

grant select, insert, update, delete on migrator.run, migrator.job to tenantry_migrator;
grant usage on all sequences in schema migrator to tenantry_migrator;

create function migrator.file_is_in_use(p_version text) returns boolean
language sql stable
as $$
    select exists (
        select from run
        where state in ('queued', 'forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back')
          and p_version = any (versions))
$$;

-- How far it is. Failures by cause, so that a person sees ten causes and not a thousand tenants.
create function migrator.run_counts(p_run_id uuid) returns jsonb
language sql stable
as $$
    with counted as (
        select wave, state, count(*) as n from job where run_id = p_run_id group by wave, state
    ), causes as (
        select coalesce(e ->> 'code', 'unknown') as code, count(*) as n, min(e ->> 'detail') as detail
        from (
            select error as e from job where run_id = p_run_id and state in ('failed', 'undo_failed')
            union all -- those that would fail
            select forecast_error from job where run_id = p_run_id and forecast = 'failed' and state in ('waiting', 'tried')
        ) j
        group by 1
        order by 2 desc
        limit 10
    )
    select jsonb_build_object(
        'tenants', (select coalesce(sum(n), 0) from counted where state <> 'left'),
        'states', (select coalesce(jsonb_object_agg(state, n), '{}')
                   from (select state, sum(n) as n from counted group by state) s),
        'progress', (select coalesce(jsonb_agg(jsonb_build_object('wave', wave, 'tenants', n, 'ended', ended, 'failed', failed)
                                               order by wave), '[]')
                     from (select wave, sum(n) as n,
                               coalesce(sum(n) filter (where state not in ('waiting', 'forecasting', 'applying', 'undo_waiting', 'undoing')), 0)
                                   as ended,
                               coalesce(sum(n) filter (where state in ('failed', 'undo_failed')), 0) as failed
                           from counted
                           where state <> 'left'
                           group by wave) w),
        'failures', (select coalesce(jsonb_agg(jsonb_build_object('code', code, 'count', n, 'example', detail)), '[]') from causes),
        'forecast', (select coalesce(jsonb_object_agg(forecast, n), '{}')
                     from (select forecast, count(*) as n from job
                           where run_id = p_run_id and forecast is not null group by forecast) f))
$$;

-- What watchers see of a run. Without tenants: those are asked for by page. A view's functions run as whoever asks.
create function migrator.run_body(p_run migrator.run) returns jsonb
language sql stable security definer
set search_path = migrator, pg_temp
as $$
    select jsonb_build_object(
        'run_id', (p_run).run_id,
        'number', (p_run).number,
        'state', (p_run).state,
        'since', catalog.json_time((p_run).state_since),
        'reason', (p_run).reason,
        'target', (p_run).target,
        'versions', to_jsonb((p_run).versions),
        'options', (p_run).options - 'tenants',
        'wave', (p_run).wave,
        'waves', (p_run).waves,
        'soak_until', catalog.json_time((p_run).soak_until),
        'created_at', catalog.json_time((p_run).created_at),
        'started_at', catalog.json_time((p_run).started_at),
        'ended_at', catalog.json_time((p_run).ended_at)) || coalesce((p_run).counts, run_counts((p_run).run_id))
$$;

create function migrator.show_run(p_run_id uuid) returns void
language sql
as $$
    select catalog.put_snapshot('migration.runs.v1', run_id::text, run_body(r), event ->> 'traceparent')
    from run r
    where run_id = p_run_id
$$;

-- The one way to change a run's state. Alerts are for what a person should look at: a halt, and the end.
create function migrator.set_run_state(p_run_id uuid, p_state text, p_code text, p_detail text) returns void
language plpgsql
as $$
declare
    v run;
    v_ended boolean := p_state in ('completed', 'rolled_back', 'cancelled');
    v_alert text := format('migration-run:%s', p_run_id);
begin
    update run
    set state = p_state,
        state_since = clock_timestamp(),
        reason = case when p_code is not null then jsonb_build_object('code', p_code, 'detail', p_detail) end,
        started_at = case when p_state in ('forecasting', 'running') then coalesce(started_at, clock_timestamp()) else started_at end,
        ended_at = case when v_ended then clock_timestamp() end,
        counts = case when v_ended then run_counts(p_run_id) end,
        soak_until = case when p_state = 'soaking' then soak_until end,
        watched_at = case when p_state = 'soaking' then clock_timestamp() end
    where run_id = p_run_id
    returning * into v;
    if p_state <> 'soaking' then
        perform drop_timer('soak', p_run_id::text);
    end if;
    if p_state = 'halted' then
        perform catalog.raise_alert(v_alert, null, 'a rollout has halted', format('run %s: %s', v.number, p_detail));
    elsif v_ended then
        perform catalog.resolve_alert(v_alert);
        perform catalog.raise_alert(v_alert, null, format('a rollout has ended: %s', replace(p_state, '_', ' ')),
            format('run %s to %s: %s', v.number, v.target, coalesce(p_detail, 'all as planned')));
    elsif p_state in ('forecasting', 'running', 'rolling_back') then
        perform catalog.resolve_alerts('migration-run:%', '{}');
    end if;
    perform show_run(p_run_id);
end
$$;

-- Gives each member of the run that has no job yet one, in wave 0: staging and canaries first, suspended ones last, the others in an
-- order that is the same for each run. Those who have all versions need nothing; those who have left the fleet neither. Who is back,
-- or of whom something else is known by now, is judged anew: a run may have waited for another one that was taken back.
create function migrator.add_members(p_run migrator.run) returns void
language plpgsql
as $$
declare
    -- Compared once for each set of versions, not for each tenant.
    v_complete bigint[] := array(select ledger_id from ledger where versions @> p_run.versions);
begin
    insert into job (run_id, tenant_id, wave, place, state)
    select p_run.run_id, f.tenant_id, 0,
        coalesce((select max(place) from job where run_id = p_run.run_id), 0)
            + row_number() over (order by f.labels @> '{staging}' desc, f.labels @> '{canary}' desc, f.suspended, md5(f.tenant_id::text)),
        case when t.ledger_id = any (v_complete) then 'current' else 'waiting' end
    from provisioner.fleet f
    left join tenant t using (tenant_id)
    where (not p_run.options ? 'labels' or f.labels && array(select jsonb_array_elements_text(p_run.options -> 'labels')))
      and (not p_run.options ? 'tenants'
           or f.tenant_id = any (array(select jsonb_array_elements_text(p_run.options -> 'tenants')::uuid)))
      and not exists (select from job j where j.run_id = p_run.run_id and j.tenant_id = f.tenant_id);
    update job j
    set state = 'left', ended_at = clock_timestamp()
    where j.run_id = p_run.run_id
      and j.state = 'waiting'
      and not exists (select from provisioner.fleet f where f.tenant_id = j.tenant_id);
    update job j
    set state = case when t.ledger_id = any (v_complete) and j.brought = '{}' then 'current' else 'waiting' end,
        attempts = 0, next_at = clock_timestamp(), ended_at = null
    from provisioner.fleet f
    left join tenant t using (tenant_id)
    where j.run_id = p_run.run_id
      and j.tenant_id = f.tenant_id
      and case
          when t.ledger_id = any (v_complete) then j.state = 'left' or (j.state = 'waiting' and j.attempts = 0 and j.brought = '{}')
          when t.ledger_id is null then j.state in ('current', 'left')
          else j.state in ('current', 'left', 'done') end;
end
$$;

-- Who came since the run was planned joins its last wave.
create function migrator.add_late_members(p_run migrator.run) returns void
language plpgsql
as $$
begin
    perform add_members(p_run);
    update job set wave = p_run.waves where run_id = p_run.run_id and wave = 0;
end
$$;

create function migrator.assign_waves(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_total int := (select count(*) from job where run_id = p_run.run_id);
    v_given int := 0;
    v_number int := 0;
    v_count int;
    v_wave jsonb;
begin
    for v_wave in select value from jsonb_array_elements(p_run.options -> 'waves') loop
        v_number := v_number + 1;
        with chosen as (
            select j.job_id
            from job j
            join provisioner.fleet f using (tenant_id)
            where j.run_id = p_run.run_id
              and j.wave = 0
              and (not v_wave ? 'labels' or f.labels && array(select jsonb_array_elements_text(v_wave -> 'labels')))
              and (not v_wave ? 'plan' or f.plan = v_wave ->> 'plan')
            order by j.place
            limit greatest(0, case
                when v_wave ? 'percent' then ceil(v_total * (v_wave ->> 'percent')::numeric / 100)::int - v_given
                else (v_wave ->> 'count')::int end)
        )
        update job j set wave = v_number from chosen c where j.job_id = c.job_id;
        get diagnostics v_count = row_count;
        v_given := v_given + v_count;
    end loop;
end
$$;

-- What a run is asked to do, with the defaults.
create function migrator.run_options(p_data jsonb) returns jsonb
language sql immutable
as $$
    select jsonb_build_object(
            'strategy', s.strategy,
            'waves', case s.strategy
                when 'all' then '[{"percent": 100}]'
                when 'gradual' then '[{"percent": 10}, {"percent": 50}, {"percent": 100}]'
                when 'canary' then '[{"count": 1}, {"percent": 100}]'
                else p_data -> 'waves' end,
            'max_failure_rate', coalesce((p_data ->> 'max_failure_rate')::numeric, 0.02),
            'max_failures', coalesce((p_data ->> 'max_failures')::int, 10),
            'soak_ms', coalesce((p_data ->> 'soak_ms')::bigint, case s.strategy when 'canary' then 86400000 else 600000 end),
            'on_halt', coalesce(p_data ->> 'on_halt', 'pause'),
            'concurrency', coalesce((p_data ->> 'concurrency')::int, 32),
            'lock_timeout_ms', coalesce((p_data ->> 'lock_timeout_ms')::bigint, 2000),
            'statement_timeout_ms', coalesce((p_data ->> 'statement_timeout_ms')::bigint, 600000),
            'out_of_order', coalesce((p_data ->> 'out_of_order')::boolean, false),
            'dry_run', coalesce((p_data ->> 'dry_run')::boolean, false))
        || jsonb_strip_nulls(jsonb_build_object('labels', p_data -> 'labels', 'tenants', p_data -> 'tenants',
                                                'allow', p_data -> 'allow', 'reason', p_data -> 'reason'))
    from (select case when (p_data ->> 'dry_run')::boolean then 'all' else coalesce(p_data ->> 'strategy', 'gradual') end as strategy) s
$$;

-- Why the run cannot be: {code, field, detail}, or null.
create function migrator.refuse_run(p_data jsonb, p_options jsonb, p_versions text[], p_target migrator.file) returns jsonb
language plpgsql stable
as $$
declare
    v record;
    v_names text;
begin
    if p_target.version is null then
        return jsonb_build_object('code', 'unknown_version', 'field', 'target', 'detail', case
            when p_data ? 'target' then format('no registered file has the version %s', p_data ->> 'target')
            else 'no file is registered' end);
    end if;
    select string_agg(t.id, ', ') into v_names
    from jsonb_array_elements_text(p_options -> 'tenants') t (id)
    where not exists (select from provisioner.fleet f where f.tenant_id::text = t.id);
    if v_names is not null then
        return jsonb_build_object('code', 'unknown_tenant', 'field', 'tenants', 'detail',
            format('no tenant with a database in use: %s', left(v_names, 300)));
    end if;
    select string_agg(l.label, ', ') into v_names
    from (select jsonb_array_elements_text(p_options -> 'labels')
          union
          select jsonb_array_elements_text(w -> 'labels') from jsonb_array_elements(p_options -> 'waves') w) l (label)
    where l.label not in (select distinct unnest(f.labels) from provisioner.fleet f);
    if v_names is not null then
        return jsonb_build_object('code', 'unknown_label', 'field', 'labels', 'detail',
            format('no tenant has the label %s', left(v_names, 300)));
    end if;
    if not exists (select from provisioner.fleet) then
        return jsonb_build_object('code', 'empty_fleet', 'field', null, 'detail', 'no tenant has a database yet');
    end if;
    select f.name, f.version into v
    from file f
    where f.name collate "C" > p_target.name
      and (f.version in (select unnest(versions) from ledger_in_use)
           or f.name <= (select max(name collate "C") from last_file_unread))
    order by f.name collate "C" desc
    limit 1;
    if found then
        return jsonb_build_object('code', 'target_below', 'field', 'target', 'detail',
            format('%s has %s, which comes after the target: a run goes forward; roll back the run that brought it',
                   name_tenants(tenants_with(v.version)), v.name));
    end if;
    if not (p_options ->> 'out_of_order')::boolean then
        select f.name, l.later into v
        from (
            select versions, (select max(g.name collate "C") from file g where g.version = any (versions)) as later
            from ledger_in_use
        ) l
        join file f on f.name collate "C" < l.later
        where f.version = any (p_versions)
          and not l.versions @> array[f.version]
        order by f.name collate "C"
        limit 1;
        if found then
            return jsonb_build_object('code', 'out_of_order', 'field', 'out_of_order', 'detail',
                format('%s sorts before %s, which tenants without it have', v.name, v.later));
        end if;
    end if;
    if (p_data ->> 'require_staging')::boolean and not p_options ? 'tenants' then
        select string_agg(name, ', ' order by name collate "C") into v_names
        from file x
        where x.version = any (p_versions)
          and not x.rolled_out
          and (not exists (select from provisioner.fleet f where f.labels @> '{staging}' and f.labels <> '{}')
               or exists (select from provisioner.fleet f
                          left join tenant t using (tenant_id)
                          left join ledger l using (ledger_id)
                          where f.labels @> '{staging}'
                            and f.labels <> '{}'
                            and not coalesce(l.versions @> array[x.version], false)));
        if v_names is not null then
            return jsonb_build_object('code', 'staging_first', 'field', 'require_staging', 'detail',
                format('not on every tenant labelled staging yet: %s', left(v_names, 300)));
        end if;
    end if;
    select string_agg(name, ', ' order by name collate "C") into v_names
    from file
    where version = any (p_versions) and not reversible and not rolled_out and version in (select files_lacking());
    if p_options ->> 'on_halt' = 'rollback' and v_names is not null then
        return jsonb_build_object('code', 'irreversible', 'field', 'on_halt', 'detail',
            format('cannot be rolled back, since migrate:down is empty: %s', left(v_names, 300)));
    end if;
    select string_agg(format('%s line %s: %s', f.name, x ->> 'line', x ->> 'rule'), '; ' order by f.name collate "C") into v_names
    from file f, jsonb_array_elements(f.findings) x
    where f.version = any (p_versions)
      and not f.rolled_out
      and f.version in (select files_lacking())
      and (x ->> 'breaking')::boolean
      and not (x ->> 'allowed')::boolean
      and not coalesce(p_options -> 'allow', '[]') ? (x ->> 'rule');
    if v_names is not null then
        return jsonb_build_object('code', 'breaking_change', 'field', 'allow', 'detail',
            format('breaks programs of the release before: %s', left(v_names, 400)));
    end if;
    return null;
end
$$;

-- What the run will do, for whoever asked for it.
create function migrator.run_plan(p_run migrator.run) returns jsonb
language sql stable
as $$
    select jsonb_build_object(
        'run_id', (p_run).run_id,
        'target', (p_run).target,
        'files', (select coalesce(jsonb_agg(jsonb_build_object(
                      'version', f.version, 'name', f.name, 'transaction', f.transaction, 'reversible', f.reversible,
                      'findings', f.findings, 'sql', case when length(f.sql) <= 16384 then f.sql end) order by f.name collate "C"),
                      '[]')
                  from file f
                  where f.version = any ((p_run).versions)
                    and not f.rolled_out
                    and f.version in (select files_lacking())),
        'waves', (select coalesce(jsonb_agg(w order by w.wave), '[]')
                  from (select wave, count(*) as tenants, count(*) filter (where state = 'current') as current
                        from job where run_id = (p_run).run_id group by wave) w))
$$;

create function migrator.accept_run(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_run uuid := (p_data ->> 'run_id')::uuid;
    v_options jsonb := run_options(p_data);
    v_target file;
    v_versions text[];
    v_refusal jsonb;
    v run;
begin
    perform from register for update; -- files and runs do not change meanwhile
    if exists (select from run where run_id = v_run) then
        perform refuse(p_event, null, 'migrate', 'run_exists', 'run_id', 'there is a run with this id');
        return;
    end if;
    select * into v_target
    from file
    where version = coalesce(p_data ->> 'target', version)
    order by name collate "C" desc
    limit 1;
    v_versions := array(select version from file where name collate "C" <= v_target.name order by name collate "C");
    v_refusal := refuse_run(p_data, v_options, v_versions, v_target);
    if v_refusal is null and not coalesce((p_data ->> 'queue')::boolean, false) then
        select jsonb_build_object('code', 'run_active', 'field', 'queue', 'detail',
            format('run %s to %s has not ended: wait for it, or let this one wait (queue)', r.number, r.target)) into v_refusal
        from run r
        where state in ('queued', 'forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back')
        order by number
        limit 1;
    end if;
    if v_refusal is not null then
        perform refuse(p_event, null, 'migrate', v_refusal ->> 'code', v_refusal ->> 'field', v_refusal ->> 'detail');
        return;
    end if;
    insert into run (run_id, state, target, versions, options, waves, event)
    values (v_run, 'queued', v_target.version, v_versions, v_options, jsonb_array_length(v_options -> 'waves'),
            jsonb_build_object('id', p_event ->> 'id', 'source', p_event ->> 'source', 'traceparent', p_event ->> 'traceparent'))
    returning * into v;
    perform add_members(v);
    perform assign_waves(v);
    perform put_operation(p_event, null, 'migrate', null);
    perform operation_done(p_event, run_plan(v));
    perform show_run(v_run);
    perform advance();
end
$$;

-- Jobs whose workers are gone can be claimed again, and hold nobody's tenant until then.
create function migrator.reap_jobs() returns void
language plpgsql
as $$
declare
    v record;
begin
    for v in
        update job
        set state = case state when 'undoing' then 'undo_waiting' else 'waiting' end,
            in_doubt = in_doubt or state <> 'forecasting',
            owner = null, lease_until = null, fence = null, next_at = clock_timestamp()
        where job_id in (select job_id from job
                         where state in ('forecasting', 'applying', 'undoing') and lease_until < clock_timestamp()
                         for update skip locked)
        returning tenant_id, job_id
    loop
        perform catalog.claim_release(v.tenant_id, v.job_id);
    end loop;
end
$$;

-- Takes up to p_limit jobs of the run at work, with the claims of their tenants. Whose tenant has something else in hand comes
-- again a moment later; that costs it no attempt. Whoever has left the fleet is left out.
create function migrator.claim_jobs(p_owner text, p_lease_ms bigint, p_limit int)
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
    with due as (
        select j.job_id, j.tenant_id, exists (select from provisioner.fleet f where f.tenant_id = j.tenant_id) as here
        from job j
        where j.run_id = v_run.run_id
          and j.state in ('waiting', 'undo_waiting')
          and j.state = case v_run.state when 'rolling_back' then 'undo_waiting' else 'waiting' end
          and (v_run.state <> 'forecasting' or j.forecast is null)
          and j.wave <= v_run.wave
          and j.next_at <= statement_timestamp()
        order by j.wave, j.next_at, j.place
        limit v_limit
        for update skip locked
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

-- Those that the worker has still; way_wanted: something that must not wait wants the tenant.
create function migrator.renew_jobs(p_owner text, p_jobs uuid[], p_lease_ms bigint)
returns table (job_id uuid, way_wanted boolean)
language sql
as $$
    update job j
    set lease_until = clock_timestamp() + p_lease_ms * interval '1 ms'
    where j.job_id = any (p_jobs)
      and j.owner = p_owner
      and j.state in ('forecasting', 'applying', 'undoing')
    returning j.job_id, coalesce((select c.way_wanted from catalog.tenant_claim c
                                  where c.tenant_id = j.tenant_id and c.holder = j.job_id), false)
$$;

-- What became of jobs: [{job_id, fence, outcome, forecast, brought, versions, unsure, error, delay_ms}]. outcome: done, failed, retry
-- (after delay_ms) or given_way (the same, but no attempt); forecast: what a rehearsal came to, which is done; brought: the versions
-- that the tenant has from this run now; versions: all that it has, or null; unsure: the connection was lost while they changed. Of
-- a job that somebody else has taken over meanwhile, nothing.
create function migrator.end_jobs(p_results jsonb) returns void
language plpgsql
as $$
declare
    v record;
    v_state text;
begin
    for v in
        select j.*, r.outcome, r.forecast as foreseen, r.brought as has_brought, r.versions, r.unsure, r.error as failure, r.delay_ms,
            n.target, n.event, n.ended_at is not null as ended_run
        from jsonb_to_recordset(p_results) r (job_id uuid, fence bigint, outcome text, forecast text, brought jsonb, versions jsonb,
                                              unsure boolean, error jsonb, delay_ms bigint)
        join job j on j.job_id = r.job_id
            and j.fence = r.fence
            and j.state in ('forecasting', 'applying', 'undoing')
        join run n on n.run_id = j.run_id
        order by j.job_id
        for update of j
    loop
        v_state := case
            when v.state = 'forecasting' then 'waiting'
            when v.outcome = 'done' then case v.state when 'applying' then 'done' else 'undone' end
            when v.outcome = 'failed' then case v.state when 'applying' then 'failed' else 'undo_failed' end
            else case v.state when 'applying' then 'waiting' else 'undo_waiting' end
        end;
        update job
        set state = v_state,
            brought = array(select jsonb_array_elements_text(v.has_brought)),
            in_doubt = in_doubt or coalesce(v.unsure, false),
            attempts = case when v.foreseen is not null then 0 else attempts - (v.outcome = 'given_way')::int end,
            next_at = clock_timestamp() + coalesce(v.delay_ms, 0) * interval '1 ms',
            forecast = coalesce(v.foreseen, forecast),
            forecast_error = case when v.foreseen is not null then v.failure else forecast_error end,
            error = case when v.foreseen is null then v.failure end,
            owner = null, lease_until = null, fence = null,
            ended_at = case when v_state in ('done', 'failed', 'undone', 'undo_failed') then clock_timestamp() end
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
            update run set counts = run_counts(run_id) where run_id = v.run_id;
            perform show_run(v.run_id);
        end if;
    end loop;
end
$$;

-- Why the run's failures are too many, or null. Those up to now were forgiven if an operator has gone on since.
create function migrator.too_many_failures(p_run migrator.run) returns text
language plpgsql stable
as $$
declare
    v_failed int := (select count(*) from job where run_id = p_run.run_id and state = 'failed') - p_run.forgiven;
    v_wave_failed int := (select count(*) from job where run_id = p_run.run_id and wave = p_run.wave and state = 'failed');
    v_wave int := (select count(*) from job where run_id = p_run.run_id and wave = p_run.wave and state <> 'left');
begin
    if v_failed <= 0 then
        return null;
    end if;
    if v_failed > (p_run.options ->> 'max_failures')::int then
        return format('%s tenants failed, and at most %s may', v_failed, p_run.options ->> 'max_failures');
    end if;
    if least(v_failed, v_wave_failed) > (p_run.options ->> 'max_failure_rate')::numeric * v_wave then
        return format('%s of the %s tenants in wave %s failed, and at most %s %% may', v_wave_failed, v_wave, p_run.wave,
                      trim_scale((p_run.options ->> 'max_failure_rate')::numeric * 100));
    end if;
    return null;
end
$$;

-- Files that tenants have from this run and that cannot be taken back, or null.
create function migrator.irreversible_files(p_run_id uuid) returns text
language sql stable
as $$
    select string_agg(name, ', ' order by name collate "C")
    from file f
    where not reversible
      and exists (select from job where run_id = p_run_id and brought @> array[f.version])
$$;

-- Takes back what tenants have from this run, of those that succeeded, failed half way, or were on their way. Where an attempt was
-- lost that may have brought something, the tenant's own ledger is asked. New tenants do not get it any more from now on; what the
-- fleet had before the run, they do.
create function migrator.begin_rollback(p_run_id uuid, p_code text, p_detail text) returns void
language plpgsql
as $$
begin
    update file f
    set rolled_out = false
    where rolled_out
      and version = any (array(select unnest(brought) from job where run_id = p_run_id))
      and not exists (select from run r where r.state = 'completed' and r.run_id <> p_run_id and r.versions @> array[f.version]);
    update job
    set state = case when brought <> '{}' or in_doubt then 'undo_waiting' else 'left' end,
        attempts = 0, next_at = clock_timestamp(), error = null,
        ended_at = case when brought <> '{}' or in_doubt then null else clock_timestamp() end
    where run_id = p_run_id
      and (state = 'waiting' or (state in ('done', 'failed', 'undo_failed', 'left') and (brought <> '{}' or in_doubt)));
    perform set_run_state(p_run_id, 'rolling_back', p_code, p_detail);
end
$$;

create function migrator.halt_run(p_run migrator.run, p_code text, p_detail text) returns void
language plpgsql
as $$
begin
    perform set_run_state(p_run.run_id, 'halted', p_code, p_detail);
    if p_run.options ->> 'on_halt' = 'rollback' then
        perform begin_rollback(p_run.run_id, p_code, p_detail);
    end if;
end
$$;

-- The run's present wave: first what would happen, then what does. A halt for what was foreseen is gone on from by hand.
create function migrator.begin_wave(p_run_id uuid) returns void
language plpgsql
as $$
begin
    perform set_run_state(p_run_id, case when exists (
        select from job j
        join run r using (run_id)
        where j.run_id = p_run_id and j.wave <= r.wave and j.state = 'waiting' and j.forecast is null
    ) then 'forecasting' else 'running' end, null, null);
end
$$;

-- The number of a run that must be taken back, or end, before this one, which has ended, can be: the newest, or null.
create function migrator.stands_on(p_run migrator.run) returns bigint
language sql stable
as $$
    select max(r.number)
    from run r
    where r.run_id <> p_run.run_id
      and (r.state in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back')
           or (r.number > p_run.number
               and (r.state = 'queued'
                    or exists (select from job j where j.run_id = r.run_id and (j.brought <> '{}' or j.in_doubt)))))
$$;

-- The next wave, for whoever is in the fleet now.
create function migrator.promote_run(p_run migrator.run) returns void
language plpgsql
as $$
begin
    perform add_late_members(p_run);
    update run set wave = wave + 1 where run_id = p_run.run_id;
    perform begin_wave(p_run.run_id);
end
$$;

create function migrator.complete_run(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_failed int := (select count(*) from job where run_id = p_run.run_id and state = 'failed');
begin
    if not p_run.options ? 'tenants' and not p_run.options ? 'labels' then
        update file set rolled_out = true where version = any (p_run.versions) and not rolled_out;
    end if;
    perform set_run_state(p_run.run_id, 'completed', case when v_failed > 0 then 'tenants_failed' end,
        case when v_failed > 0 then format('%s tenants failed', v_failed) end);
end
$$;

-- All of the wave were tried, and rolled back.
create function migrator.end_forecast(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_failed int := (select count(*) from job where run_id = p_run.run_id and state = 'waiting' and forecast = 'failed');
    v_tried int := (select count(*) from job where run_id = p_run.run_id and state = 'waiting' and wave <= p_run.wave);
    v_detail text := format('%s of %s tenants would fail', v_failed, v_tried);
begin
    if (p_run.options ->> 'dry_run')::boolean then
        update job set state = 'tried', ended_at = clock_timestamp() where run_id = p_run.run_id and state = 'waiting';
        perform set_run_state(p_run.run_id, 'completed', 'dry_run', v_detail);
    elsif v_failed > (p_run.options ->> 'max_failures')::int
        or v_failed > (p_run.options ->> 'max_failure_rate')::numeric * v_tried then
        perform halt_run(p_run, 'forecast_failed', v_detail || ': none was touched');
    else
        perform set_run_state(p_run.run_id, 'running', null, null);
    end if;
end
$$;

-- Time that nobody watched does not count: neither while all migrators were down, nor what the clock jumped over. What a sandbox's
-- clock was moved by does. Returns whether the soak is over.
create function migrator.watch_run(p_run migrator.run) returns boolean
language plpgsql
as $$
declare
    v_now timestamptz := clock_timestamp();
    v_gap interval := v_now - p_run.watched_at;
    v_until timestamptz := p_run.soak_until;
begin
    if v_gap > interval '15 seconds' then
        v_until := v_until + v_gap;
        perform set_timer('soak', p_run.run_id::text, v_until);
    elsif v_gap < interval '0' then
        v_until := v_until + v_gap; -- the clock went back: so does the end
    end if;
    update run set watched_at = v_now, soak_until = v_until where run_id = p_run.run_id;
    return v_until <= catalog.business_now();
end
$$;

-- A wave's jobs have all ended.
create function migrator.end_wave(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_until timestamptz := catalog.business_now() + (p_run.options ->> 'soak_ms')::bigint * interval '1 ms';
begin
    if p_run.wave >= p_run.waves then
        perform add_late_members(p_run); -- who came during the last wave has nobody else to bring them what the run brings
        if exists (select from job where run_id = p_run.run_id and state = 'waiting') then
            perform begin_wave(p_run.run_id);
        else
            perform complete_run(p_run);
        end if;
    elsif (p_run.options ->> 'soak_ms')::bigint = 0
        or not exists (select from job where run_id = p_run.run_id and wave = p_run.wave and state in ('done', 'failed')) then
        perform promote_run(p_run); -- there is nothing to watch
    else
        update run set soak_until = v_until where run_id = p_run.run_id;
        perform set_run_state(p_run.run_id, 'soaking', null, null);
        perform set_timer('soak', p_run.run_id::text, v_until);
    end if;
end
$$;

create function migrator.end_rollback(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_failed int := (select count(*) from job where run_id = p_run.run_id and state = 'undo_failed');
begin
    if v_failed > 0 then
        perform set_run_state(p_run.run_id, 'halted', 'rollback_incomplete',
            format('%s tenants could not be rolled back: see which, and retry', v_failed));
        return;
    end if;
    perform set_run_state(p_run.run_id, 'rolled_back', p_run.reason ->> 'code', p_run.reason ->> 'detail');
end
$$;

-- What is to be done with the run at work, if anything: a pure function of its jobs and the time. Then the next one, if one waits.
-- Returns whether there is a run that has not ended.
create function migrator.advance() returns boolean
language plpgsql
as $$
declare
    v run;
    v_why text;
begin
    perform reap_jobs();
    select * into v
    from run
    where state in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back')
    for update;
    if not found then
        select * into v from run where state = 'queued' order by number limit 1 for update skip locked;
        if v.run_id is null then
            return false;
        end if;
        begin
            perform add_late_members(v);
            perform begin_wave(v.run_id);
        exception when unique_violation then
            null; -- somebody else has begun the one before it at this moment
        end;
        return true;
    end if;
    if v.state = 'rolling_back' then -- what was on its way when the rollback began
        update job
        set state = 'undo_waiting', attempts = 0, ended_at = null
        where run_id = v.run_id
          and state in ('waiting', 'done', 'failed')
          and (brought <> '{}' or in_doubt);
        update job
        set state = 'left', attempts = 0, ended_at = clock_timestamp()
        where run_id = v.run_id
          and state = 'waiting';
    end if;
    if v.state in ('running', 'soaking') then
        v_why := too_many_failures(v);
    end if;
    if v_why is not null then
        perform halt_run(v, 'too_many_failures', v_why);
    elsif v.state = 'forecasting' and not exists (
        select from job where run_id = v.run_id and wave <= v.wave
          and (state = 'forecasting' or (state = 'waiting' and forecast is null))) then
        perform end_forecast(v);
    elsif v.state = 'running' and not exists (
        select from job where run_id = v.run_id and wave <= v.wave and state in ('waiting', 'forecasting', 'applying')) then
        perform end_wave(v);
    elsif v.state = 'soaking' and watch_run(v) then
        perform promote_run(v);
    elsif v.state = 'rolling_back' and not exists (
        select from job where run_id = v.run_id and state in ('forecasting', 'applying', 'undo_waiting', 'undoing')) then
        perform end_rollback(v);
    else
        perform show_run(v.run_id);
    end if;
    return true;
end
$$;

-- Beside what every service forgets: the jobs of runs that are long over, of which nothing can be taken back any more.
create function migrator.prune() returns bigint
language plpgsql
as $$
declare
    v_count bigint;
begin
    delete from job
    where job_id = any (array(select job_id
                              from job
                              where run_id in (select run_id
                                               from run
                                               where ended_at < statement_timestamp() - interval '400 days'
                                                 and counts is not null)
                              limit 5000));
    get diagnostics v_count = row_count;
    return v_count + durable.prune();
end
$$;

create function migrator.timer_due(p_name text, p_key text, p_due_at timestamptz) returns void
language plpgsql
as $$
begin
    -- Whoever commands the run now may be about to drop this timer, and waits for us.
    perform from run where state = 'soaking' for update skip locked;
    if found then
        perform advance();
    end if;
end
$$;

-- Tries failed jobs again, those of one tenant or with one code if p_data says so; or, p_mark, has one noted that somebody has done
-- by hand. Returns why not, or null.
create function migrator.retry_jobs(
    p_run migrator.run, p_event jsonb, p_data jsonb, p_mark boolean, p_by text, out code text, out detail text
)
language plpgsql
as $$
declare
    v_taking_back boolean := p_run.reason ->> 'code' is not distinct from 'rollback_incomplete';
    v_count int;
begin
    if p_run.state not in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'completed')
        or (p_run.state = 'completed' and exists (
            select from run r where r.state in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'rolling_back')))
        or (p_mark and v_taking_back) then
        code := 'wrong_state';
        return;
    end if;
    update job j
    set state = case j.state when 'failed' then 'waiting' else 'undo_waiting' end,
        attempts = 0,
        next_at = clock_timestamp(),
        ended_at = null,
        marked = case when p_mark
            then jsonb_build_object('by', p_event ->> 'source', 'reason', p_data ->> 'reason') end
    where j.run_id = p_run.run_id
      and (j.state = 'undo_failed' or (j.state = 'failed' and not v_taking_back))
      and (not p_data ? 'tenant_id' or j.tenant_id = (p_data ->> 'tenant_id')::uuid)
      and (not p_data ? 'code' or j.error ->> 'code' = p_data ->> 'code');
    get diagnostics v_count = row_count;
    if v_count = 0 then
        code := 'nothing_to_retry';
        detail := 'no failed tenant of the run is meant';
    elsif v_taking_back then
        perform set_run_state(p_run.run_id, 'rolling_back', 'rollback', p_by);
    elsif p_run.state <> 'paused' then
        update run r
        set forgiven = (select count(*) from job j where j.run_id = p_run.run_id and j.state = 'failed')
        where r.run_id = p_run.run_id;
        perform set_run_state(p_run.run_id, 'running', null, null);
    end if;
end
$$;

-- A command to a run: what was done, or why not.
create function migrator.accept_command(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_command text := split_part(p_event ->> 'type', '.', 2);
    v run;
    v_by text := coalesce(p_data ->> 'reason', format('by %s', coalesce(p_event ->> 'source', 'an event')));
    v_code text;
    v_detail text;
begin
    perform from register for update;
    select * into v from run where run_id = (p_data ->> 'run_id')::uuid for update;
    if not found then
        perform refuse(p_event, null, v_command, 'unknown_run', 'run_id', 'there is no run with this id');
        return;
    end if;
    case v_command
        when 'pause' then
            if v.state in ('forecasting', 'running', 'soaking') then
                perform set_run_state(v.run_id, 'paused', 'paused', v_by);
            else
                v_code := 'wrong_state';
            end if;
        when 'resume' then
            if v.state in ('paused', 'halted') and v.reason ->> 'code' <> 'rollback_incomplete' then
                update run
                set forgiven = (select count(*) from job where run_id = v.run_id and state = 'failed')
                where run_id = v.run_id;
                perform begin_wave(v.run_id);
            else
                v_code := 'wrong_state';
            end if;
        when 'promote' then
            if v.state = 'soaking' then
                perform promote_run(v);
            else
                v_code := 'wrong_state';
            end if;
        when 'halt' then
            if v.state in ('forecasting', 'running', 'soaking', 'paused') then
                perform halt_run(v, 'halted', v_by);
            else
                v_code := 'wrong_state';
            end if;
        when 'rollback' then
            v_detail := irreversible_files(v.run_id);
            if v.state not in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'completed', 'cancelled')
                or (v.options ->> 'dry_run')::boolean then
                v_code := 'wrong_state';
                v_detail := null;
            elsif v.ended_at is not null and stands_on(v) is not null then
                v_code := 'wrong_state';
                v_detail := format('run %s has not ended, or has brought later files: roll it back first', stands_on(v));
            elsif v_detail is not null then
                v_code := 'irreversible';
                v_detail := format('cannot be rolled back, since migrate:down is empty: %s', left(v_detail, 300));
            else
                perform begin_rollback(v.run_id, 'rollback', v_by);
            end if;
        when 'cancel' then
            if v.state in ('queued', 'forecasting', 'running', 'soaking', 'paused', 'halted') then
                update job set state = 'left', ended_at = clock_timestamp() where run_id = v.run_id and state = 'waiting';
                perform set_run_state(v.run_id, 'cancelled', 'cancelled', v_by);
            else
                v_code := 'wrong_state';
            end if;
        when 'retry', 'mark' then
            select code, detail into v_code, v_detail from retry_jobs(v, p_event, p_data, v_command = 'mark', v_by);
    end case;
    if v_code is not null then
        perform refuse(p_event, null, v_command, v_code, 'run_id',
            coalesce(v_detail, format('a run that is %s cannot do that', replace(v.state, '_', ' '))));
        return;
    end if;
    perform put_operation(p_event, null, v_command, null);
    perform operation_done(p_event, jsonb_build_object('run_id', v.run_id, 'state',
        (select state from run where run_id = v.run_id)));
    perform advance();
end
$$;

create function migrator.accept_event(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    case p_event ->> 'type'
        when 'migration.register.requested.v1' then perform accept_file(p_event, p_data);
        when 'migration.withdraw.requested.v1' then perform withdraw_file(p_event, p_data);
        when 'migration.run.requested.v1' then perform accept_run(p_event, p_data);
        else perform accept_command(p_event, p_data);
    end case;
end
$$;

-- The migrator's part of a tenant's snapshot: as far as it knows the tenant.
create view migrator.tenant_part as
select t.tenant_id,
    jsonb_build_object('schema', jsonb_build_object(
        'version', coalesce(l.newest, p.schema_version),
        'target', t.target,
        'state', t.state,
        'run', t.run_id,
        'error', t.error)) as part
from migrator.tenant t
join provisioner.tenant p using (tenant_id)
left join migrator.ledger l using (ledger_id);
select catalog.add_snapshot_part('migrator');

-- How fast it goes, of the last half minute: tenants a second, and seconds until its wave has ended; null where nobody knows.
create function migrator.run_speed(p_run migrator.run) returns jsonb
language sql stable security definer
set search_path = migrator, pg_temp
as $$
    select jsonb_build_object('per_second', round(s.rate, 1), 'remaining_s', ceil(s.waiting / nullif(s.rate, 0)))
    from (
        select count(*) filter (where j.ended_at > statement_timestamp() - interval '30 seconds')
                / greatest(1, least(30, extract(epoch from statement_timestamp() - (p_run).state_since)))::numeric as rate,
            count(*) filter (where j.state in ('waiting', 'applying', 'undo_waiting', 'undoing') and j.wave <= (p_run).wave) as waiting
        from job j
        where j.run_id = (p_run).run_id
          and (p_run).state in ('running', 'rolling_back')
    ) s
$$;

create view gateway.migration_run as
select r.run_id, r.number, r.state, migrator.run_body(r) || migrator.run_speed(r) as item
from migrator.run r;

-- As the publisher sends them.
create view gateway.migration_snapshot as
select key::uuid as run_id, body || jsonb_build_object('version', version) as snapshot
from catalog.snapshot
where topic = 'migration.runs.v1';
grant select on gateway.migration_snapshot to tenantry_gateway;

create view gateway.migration_job as
select j.run_id, j.tenant_id, j.wave, j.place, j.state, coalesce(j.error, j.forecast_error) ->> 'code' as code,
    jsonb_build_object(
        'tenant_id', j.tenant_id, 'slug', t.slug, 'wave', j.wave, 'state', j.state, 'brought', to_jsonb(j.brought),
        'attempts', j.attempts, 'marked', j.marked, 'waits_for', j.waits_for, 'forecast', j.forecast, 'error', coalesce(j.error, j.forecast_error), 'next_at', catalog.json_time(j.next_at),
        'began_at', catalog.json_time(j.began_at), 'ended_at', catalog.json_time(j.ended_at)) as item
from migrator.job j
left join provisioner.tenant t using (tenant_id);
grant select on gateway.migration_run, gateway.migration_job to tenantry_gateway;
grant execute on all functions in schema migrator to tenantry_migrator;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
