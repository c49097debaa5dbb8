-- Before a wave a few of its tenants are looked at, and again all through its soak: what got worse halts the run. So does a signal
-- from outside. A forecast is of a sample, unless the run wants all. A pause no longer makes a soak begin again.
-- migrate:up
set local check_function_bodies = off;

-- Of the present wave.
create table migrator.probe (
    run_id uuid not null references migrator.run on delete cascade,
    tenant_id uuid not null,
    before jsonb, -- what the inspection found: {versions, ...}, or {} if the tenant could not be reached
    first jsonb, -- in the soak
    latest jsonb,
    unreachable int not null default 0, -- how many times in a row
    next_at timestamptz not null default clock_timestamp(),
    primary key (run_id, tenant_id)
);

create table migrator.signal (
    run_id uuid not null references migrator.run on delete cascade,
    name text not null,
    verdict text not null check (verdict in ('halt', 'good')),
    reason text,
    at timestamptz not null default clock_timestamp(),
    primary key (run_id, name)
);
grant select, insert, update, delete on migrator.probe, migrator.signal to tenantry_migrator;

alter table migrator.run
    add column soak_left interval, -- of a soak that was interrupted
    add column foreseen boolean not null default false; -- the forecast of its present wave has been judged
alter table migrator.job drop constraint job_forecast_check;
alter table migrator.job add constraint job_forecast_check check (forecast in ('passed', 'failed', 'busy', 'untried', 'skipped'));

-- p_found: null, if the tenant could not be reached. Not of a run that has ended meanwhile: nobody would tell its watchers.
create function migrator.note_probe(p_run_id uuid, p_tenant_id uuid, p_found jsonb) returns void
language sql
as $$
    update probe p
    set before = coalesce(p.before, f.found, '{}'),
        first = case when p.before is not null then coalesce(p.first, f.found) end,
        latest = case when p.before is not null then coalesce(f.found, p.latest) end,
        unreachable = case when p.before is not null and f.found is null then p.unreachable + 1 else 0 end
    from run r, (select p_found #- '{schema,objects}' as found) f -- the digest says enough, twice a second
    where p.run_id = p_run_id
      and p.tenant_id = p_tenant_id
      and r.run_id = p_run_id
      and r.ended_at is null
$$;

-- Chooses whom to watch, before the wave begins; those who were watched are not any more. Without a soak nobody would look, nor where
-- all migrators are of the release before.
create function migrator.choose_probes(p_run migrator.run) returns void
language plpgsql
as $$
begin
    delete from probe where run_id = p_run.run_id;
    perform catalog.resolve_alert(format('migration-unwatched:%s', p_run.run_id));
    if (p_run.options ->> 'soak_ms')::bigint = 0 or (p_run.options ->> 'dry_run')::boolean or p_run.wave >= p_run.waves
        or not exists (select from inspector where seen_at > statement_timestamp() - interval '1 minute') then
        return;
    end if;
    insert into probe (run_id, tenant_id)
    select run_id, tenant_id
    from job
    where run_id = p_run.run_id
      and wave = p_run.wave
      and state = 'waiting'
    order by md5(job_id::text)
    limit 20;
    insert into inspection (run_id, tenant_id, with_schema)
    select run_id, tenant_id, true from probe where run_id = p_run.run_id
    on conflict do nothing;
end
$$;

-- Looks at them again when it is time: twenty times a soak, but not more often than each second or more rarely than each minute.
create function migrator.look_at_probes(p_run migrator.run) returns void
language sql
as $$
    with due as (
        update probe
        set next_at = clock_timestamp()
            + least(60000, greatest(1000, (p_run.options ->> 'soak_ms')::bigint / 20)) * interval '1 ms'
        where run_id = p_run.run_id
          and next_at <= clock_timestamp()
        returning tenant_id
    )
    insert into inspection (run_id, tenant_id, with_schema)
    select p_run.run_id, tenant_id, true from due
    on conflict do nothing
$$;

-- Where only migrators of the release before are left, the run goes on unwatched, as they would have it.
create function migrator.forget_probes_nobody_looks_at(p_run_id uuid) returns void
language plpgsql
as $$
begin
    if exists (select from inspection where run_id = p_run_id and next_at < clock_timestamp() - interval '2 minutes') then
        delete from inspection where run_id = p_run_id;
        delete from probe where run_id = p_run_id;
        perform catalog.raise_alert(format('migration-unwatched:%s', p_run_id), null, 'a rollout goes on unwatched',
            'no migrator has looked at the tenants that it watches for two minutes');
    end if;
end
$$;

-- What has got worse since before the wave, or null.
create function migrator.failing_probes(p_run_id uuid) returns text
language plpgsql stable
as $$
declare
    v_names text;
    v record;
begin
    select string_agg(slug, ', ' order by slug) into v_names
    from probe
    join provisioner.fleet using (tenant_id)
    where run_id = p_run_id
      and before <> '{}'
      and unreachable >= 2;
    if v_names is not null then
        return format('cannot be reached any more: %s', left(v_names, 300));
    end if;
    select string_agg(format('%s: %s', f.slug, i.name), '; ' order by f.slug, i.name) into v_names
    from probe p
    join provisioner.fleet f using (tenant_id)
    cross join lateral jsonb_array_elements_text(p.latest -> 'invalid_indexes') i (name)
    where p.run_id = p_run_id
      and p.before <> '{}'
      and not p.before -> 'invalid_indexes' ? i.name;
    if v_names is not null then
        return format('an index is invalid that was not: %s', left(v_names, 300));
    end if;
    -- Alike before, and with the same files now, they are alike now.
    select f.slug, g.slug as other into v
    from probe p
    join probe q on q.run_id = p.run_id
        and q.before -> 'versions' = p.before -> 'versions'
        and q.before -> 'server_major' = p.before -> 'server_major'
        and q.before -> 'schema' ->> 'digest' = p.before -> 'schema' ->> 'digest'
        and q.latest -> 'versions' = p.latest -> 'versions'
        and q.latest -> 'schema' ->> 'digest' <> p.latest -> 'schema' ->> 'digest'
    join provisioner.fleet f on f.tenant_id = p.tenant_id
    join provisioner.fleet g on g.tenant_id = q.tenant_id
    where p.run_id = p_run_id
    order by f.slug, g.slug
    limit 1;
    if found then
        return format('%s and %s had the same schema before, and have the same files now, but not the same schema', v.slug, v.other);
    end if;
    select sum(b.rollbacks) / nullif(sum(b.commits + b.rollbacks), 0) as rate_before,
        sum(l.rollbacks - s.rollbacks) as rollbacks,
        sum(l.commits + l.rollbacks - s.commits - s.rollbacks) as transactions,
        sum(b.deadlocks) / nullif(sum(b.commits + b.rollbacks), 0) as deadlock_rate_before,
        sum(l.deadlocks - s.deadlocks) as deadlocks
    into v
    from probe p
    cross join lateral jsonb_to_record(p.before -> 'counters') b (commits numeric, rollbacks numeric, deadlocks numeric)
    cross join lateral jsonb_to_record(p.first -> 'counters') s (commits numeric, rollbacks numeric, deadlocks numeric)
    cross join lateral jsonb_to_record(p.latest -> 'counters') l (commits numeric, rollbacks numeric, deadlocks numeric)
    where p.run_id = p_run_id
      and l.commits >= s.commits and l.rollbacks >= s.rollbacks and l.deadlocks >= s.deadlocks; -- or somebody has reset them
    if v.transactions >= 100 and v.rollbacks / v.transactions > 0.05 + 2 * coalesce(v.rate_before, 0) then
        return format('%s of %s transactions were rolled back, and %s %% before', v.rollbacks, v.transactions,
                      round(coalesce(v.rate_before, 0) * 100, 1));
    end if;
    if v.deadlocks >= 3 and v.deadlocks > 2 * coalesce(v.deadlock_rate_before, 0) * v.transactions then
        return format('%s deadlocks in %s transactions, and %s %% before', v.deadlocks, v.transactions,
                      round(coalesce(v.deadlock_rate_before, 0) * 100, 3));
    end if;
    return null;
end
$$;

-- Why the run should halt now, if it should.
create function migrator.why_to_halt(p_run migrator.run, out code text, out detail text)
language plpgsql stable
as $$
begin
    select 'signal', format('%s%s', name, coalesce(': ' || reason, '')) into code, detail
    from signal
    where run_id = p_run.run_id
      and verdict = 'halt'
    order by at
    limit 1;
    if code is null and p_run.state in ('running', 'soaking') then
        detail := too_many_failures(p_run);
        code := case when detail is not null then 'too_many_failures' end;
    end if;
    if code is null and p_run.state = 'soaking' then
        detail := failing_probes(p_run.run_id);
        code := case when detail is not null then 'probe_failed' end;
    end if;
end
$$;

-- What was counted between two looks; if that is nothing, what had been counted by the later one.
create function migrator.counted_since(p_first jsonb, p_latest jsonb) returns jsonb
language sql immutable
as $$
    select case when d ->> 'commits' = '0' and d ->> 'rollbacks' = '0' then p_latest else d end
    from (
        select jsonb_object_agg(key, greatest(0, value::text::numeric - coalesce((p_first ->> key)::numeric, 0))) as d
        from jsonb_each(p_latest)
    ) x
$$;

-- An operator has seen what halted the run, and goes on: from now on only what gets worse than it is counts.
create function migrator.forgive(p_run_id uuid) returns void
language sql
as $$
    update run r
    set forgiven = (select count(*) from job j where j.run_id = r.run_id and j.state = 'failed')
    where r.run_id = p_run_id;
    delete from signal where run_id = p_run_id and verdict = 'halt';
    update probe
    set before = case
            when unreachable > 0 then '{}'
            when latest is null then before
            else latest || jsonb_build_object('counters', counted_since(first -> 'counters', latest -> 'counters')) end,
        first = null, latest = null, unreachable = 0
    where run_id = p_run_id
      and before is not null
$$;

create function migrator.accept_signal(p_run migrator.run, p_data jsonb, out code text, out detail text)
language plpgsql
as $$
begin
    if p_run.ended_at is not null or p_run.state = 'rolling_back' then
        code := 'wrong_state';
        return;
    end if;
    if (select count(*) from signal where run_id = p_run.run_id and name <> p_data ->> 'name') >= 20 then
        code := 'too_many_signals';
        detail := 'a run keeps the signals of twenty names';
        return;
    end if;
    insert into signal (run_id, name, verdict, reason)
    values (p_run.run_id, p_data ->> 'name', p_data ->> 'verdict', p_data ->> 'reason')
    on conflict (run_id, name) do update set verdict = excluded.verdict, reason = excluded.reason, at = clock_timestamp();
    perform show_run(p_run.run_id);
end
$$;

-- As before, with what is left of a soak.
create or replace function migrator.set_run_state(p_run_id uuid, p_state text, p_code text, p_detail text) returns void
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
        soak_left = case
            when state = 'soaking' and p_state in ('paused', 'halted') then greatest(interval '0', soak_until - catalog.business_now())
            when p_state in ('paused', 'halted', 'forecasting', 'running') then soak_left end,
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
        perform catalog.resolve_alert(format('migration-unwatched:%s', p_run_id));
        perform catalog.resolve_alert(v_alert);
        perform catalog.raise_alert(v_alert, null, format('a rollout has ended: %s', replace(p_state, '_', ' ')),
            format('run %s to %s: %s', v.number, v.target, coalesce(p_detail, 'all as planned')));
    elsif p_state in ('forecasting', 'running', 'rolling_back') then
        perform catalog.resolve_alerts('migration-run:%', '{}');
    end if;
    perform show_run(p_run_id);
end
$$;

-- As before, with the fields forecast, probes and signals.
create or replace function migrator.run_body(p_run migrator.run) returns jsonb
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
        'probes', (select jsonb_build_object('tenants', count(*), 'looked_at', count(*) filter (where latest is not null),
                                             'unreachable', count(*) filter (where unreachable > 0))
                   from probe where run_id = (p_run).run_id),
        'signals', (select coalesce(jsonb_agg(jsonb_build_object('name', name, 'verdict', verdict, 'reason', reason,
                                                                 'at', catalog.json_time(at)) order by name), '[]')
                    from signal where run_id = (p_run).run_id),
        'created_at', catalog.json_time((p_run).created_at),
        'started_at', catalog.json_time((p_run).started_at),
        'ended_at', catalog.json_time((p_run).ended_at)) || coalesce((p_run).counts, run_counts((p_run).run_id))
$$;

create or replace function migrator.run_options(p_data jsonb) returns jsonb
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
            'forecast', case when (p_data ->> 'dry_run')::boolean then 'all' else coalesce(p_data ->> 'forecast', 'sample') end,
            'out_of_order', coalesce((p_data ->> 'out_of_order')::boolean, false),
            'dry_run', coalesce((p_data ->> 'dry_run')::boolean, false))
        || jsonb_strip_nulls(jsonb_build_object('labels', p_data -> 'labels', 'tenants', p_data -> 'tenants',
                                                'canary', p_data -> 'canary',
                                                'allow', p_data -> 'allow', 'reason', p_data -> 'reason'))
    from (select case when (p_data ->> 'dry_run')::boolean then 'all' else coalesce(p_data ->> 'strategy', 'gradual') end as strategy) s
$$;

-- Of each set of versions that the wave's tenants have, two hundred: if one in fifty would fail, that shows in 98 of 100 forecasts. The
-- others are skipped: each is a transaction of its own all the same, and the limits count.
create function migrator.choose_forecasts(p_run migrator.run) returns void
language sql
as $$
    update job j
    set forecast = 'skipped'
    from (
        select w.job_id, row_number() over (partition by t.ledger_id order by w.place) as nth
        from job w
        left join tenant t using (tenant_id)
        where w.run_id = p_run.run_id
          and w.wave <= p_run.wave
          and w.state = 'waiting'
          and w.forecast is null
    ) c
    where j.job_id = c.job_id
      and c.nth > case coalesce(p_run.options ->> 'forecast', 'sample') when 'sample' then 200 when 'none' then 0 end
$$;

-- Has every session plan its statements anew: those that it made for a table with a few jobs take hours with ten thousand. Autovacuum
-- would see to that, but not before the run is under way.
create function migrator.analyze_jobs() returns void
language plpgsql security definer
set search_path = migrator, pg_temp
as $$
begin
    analyze job;
end
$$;

-- The run's present wave: first what would happen, then what does. A halt for what was foreseen is gone on from by hand: so a probe that
-- could not be looked into is not awaited once more. What was found out in a pause is judged, and whose rehearsal is under way is awaited.
-- A dry run is never more than that.
create or replace function migrator.begin_wave(p_run_id uuid) returns void
language plpgsql
as $$
declare
    v run;
begin
    select * into v from run where run_id = p_run_id;
    perform choose_forecasts(v);
    if (select count(*) from job where run_id = p_run_id) >= 1000 then
        perform analyze_jobs();
    end if;
    perform set_run_state(p_run_id, case
        when (v.options ->> 'dry_run')::boolean
            or exists (select from inspection where run_id = p_run_id and put_off = 0)
            or exists (select from job
                       where run_id = p_run_id
                         and wave <= v.wave
                         and state in ('waiting', 'forecasting')
                         and (forecast is null or (forecast = 'failed' and not v.foreseen))) then 'forecasting'
        else 'running' end, null, null);
end
$$;

-- The next wave, for whoever is in the fleet now.
create or replace function migrator.promote_run(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v run;
begin
    perform add_late_members(p_run);
    update run set wave = wave + 1, soak_left = null, foreseen = false where run_id = p_run.run_id returning * into v;
    perform choose_probes(v);
    perform begin_wave(p_run.run_id);
end
$$;

create function migrator.forecast_passes(p_run migrator.run, p_failed bigint, p_tried bigint) returns boolean
language sql immutable
as $$
    select p_failed <= ((p_run).options ->> 'max_failures')::int
       and p_failed <= ((p_run).options ->> 'max_failure_rate')::numeric * p_tried
$$;

-- Whether nothing that is still to be foreseen can keep the run from going on: a tenant that does not answer holds up all others only
-- where it matters. A dry run is there to hear of all. What a probe was like before is of use, if it can be had.
create function migrator.forecast_is_settled(p_run migrator.run) returns boolean
language plpgsql stable
as $$
declare
    v_failed bigint;
    v_open bigint;
    v_tried bigint;
begin
    if exists (select from inspection where run_id = p_run.run_id and put_off = 0) then
        return false;
    end if;
    select count(*) filter (where forecast = 'failed'), count(*) filter (where forecast is null), count(*)
    into v_failed, v_open, v_tried
    from job
    where run_id = p_run.run_id
      and wave <= p_run.wave
      and state in ('waiting', 'forecasting')
      and forecast is distinct from 'skipped';
    return v_open = 0 or (not (p_run.options ->> 'dry_run')::boolean and forecast_passes(p_run, v_failed + v_open, v_tried));
end
$$;

-- The sample was tried, and rolled back; or enough of it. Whoever is on his way is awaited by the wave.
create or replace function migrator.end_forecast(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_failed int := (select count(*) from job where run_id = p_run.run_id and state = 'waiting' and forecast = 'failed');
    v_tried int := (select count(*) from job
                    where run_id = p_run.run_id and state in ('waiting', 'forecasting') and wave <= p_run.wave
                      and forecast is distinct from 'skipped');
    v_detail text := format('%s of %s tenants would fail', v_failed, v_tried);
begin
    update run set foreseen = true where run_id = p_run.run_id;
    if (p_run.options ->> 'dry_run')::boolean then
        update job set state = 'tried', ended_at = clock_timestamp() where run_id = p_run.run_id and state = 'waiting';
        perform set_run_state(p_run.run_id, 'completed', 'dry_run', v_detail);
    elsif not forecast_passes(p_run, v_failed, v_tried) then
        perform halt_run(p_run, 'forecast_failed', v_detail || ': none was touched');
    else
        update job
        set forecast = 'skipped'
        where run_id = p_run.run_id and wave <= p_run.wave and state = 'waiting' and forecast is null;
        perform set_run_state(p_run.run_id, 'running', null, null);
    end if;
end
$$;

-- Time that nobody watched does not count: neither while all migrators were down, nor what the clock jumped over. What a sandbox's
-- clock was moved by does. Returns whether the soak is over: its time, and each probe has been looked at.
create or replace function migrator.watch_run(p_run migrator.run) returns boolean
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
    perform look_at_probes(p_run);
    return v_until <= catalog.business_now()
        and not exists (select from probe
                        join provisioner.fleet using (tenant_id) -- nobody looks at who has left
                        where run_id = p_run.run_id
                          and latest is null
                          and unreachable = 0);
end
$$;

-- A wave's jobs have all ended.
create or replace function migrator.end_wave(p_run migrator.run) returns void
language plpgsql
as $$
declare
    v_until timestamptz := catalog.business_now()
        + coalesce(p_run.soak_left, (p_run.options ->> 'soak_ms')::bigint * interval '1 ms');
begin
    if p_run.wave >= p_run.waves then
        perform add_late_members(p_run); -- who came during the last wave has nobody else to bring them what the run brings
        if exists (select from job where run_id = p_run.run_id and state = 'waiting') then
            update run set foreseen = false where run_id = p_run.run_id;
            perform begin_wave(p_run.run_id);
        else
            perform complete_run(p_run);
        end if;
    elsif (p_run.options ->> 'soak_ms')::bigint = 0
        or not exists (select from job where run_id = p_run.run_id and wave = p_run.wave and state in ('done', 'failed')) then
        perform promote_run(p_run); -- there is nothing to watch
    else
        update run set soak_until = v_until where run_id = p_run.run_id;
        update probe set next_at = clock_timestamp() where run_id = p_run.run_id;
        perform set_run_state(p_run.run_id, 'soaking', null, null);
        perform set_timer('soak', p_run.run_id::text, v_until);
    end if;
end
$$;

create or replace function migrator.advance() returns boolean
language plpgsql
as $$
declare
    v run;
    v_code text;
    v_detail text;
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
            perform choose_probes(v);
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
    if v.state in ('forecasting', 'running', 'soaking') then
        perform forget_probes_nobody_looks_at(v.run_id);
        select code, detail into v_code, v_detail from why_to_halt(v);
    end if;
    if v_code is not null then
        perform halt_run(v, v_code, v_detail);
    elsif v.state = 'forecasting' and forecast_is_settled(v) then
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

-- Of a run that has ended, when a job of it ends all the same.
create function migrator.recount_run(p_run_id uuid) returns void
language plpgsql
as $$
begin
    update run set counts = run_counts(run_id) where run_id = p_run_id;
    perform show_run(p_run_id);
end
$$;

create or replace function migrator.prune() returns bigint
language plpgsql
as $$
declare
    v_count bigint;
    v_run uuid;
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
    for v_run in -- those that were cancelled at the moment in which a job ended
        select r.run_id
        from run r
        where r.counts -> 'states' ?| '{forecasting,applying}'
          and exists (select from job j where j.run_id = r.run_id)
          and not exists (select from job j where j.run_id = r.run_id and j.state in ('forecasting', 'applying'))
    loop
        perform recount_run(v_run);
    end loop;
    delete from fingerprint f where not exists (select from tenant t where t.fingerprint_id = f.fingerprint_id);
    return v_count + durable.prune();
end
$$;

-- As before, without the errors of a forecast that the attempt itself has proved wrong.
create or replace view gateway.migration_job as
select x.run_id, x.tenant_id, x.wave, x.place, x.state, x.shown ->> 'code' as code,
    jsonb_build_object(
        'tenant_id', x.tenant_id, 'slug', t.slug, 'wave', x.wave, 'state', x.state, 'brought', to_jsonb(x.brought),
        'attempts', x.attempts, 'marked', x.marked, 'waits_for', x.waits_for, 'forecast', x.forecast, 'error', x.shown,
        'next_at', catalog.json_time(x.next_at), 'began_at', catalog.json_time(x.began_at),
        'ended_at', catalog.json_time(x.ended_at)) as item
from (
    select j.*, coalesce(j.error, case when j.state in ('waiting', 'forecasting', 'tried', 'left') then j.forecast_error end) as shown
    from migrator.job j
) x
left join provisioner.tenant t using (tenant_id);

-- As before; who is meant is a question of its own by now.
create or replace function migrator.refuse_run(p_data jsonb, p_options jsonb, p_versions text[], p_target migrator.file) returns jsonb
language plpgsql stable
as $$
declare
    v record;
    v_names text;
    v_refusal jsonb;
begin
    if p_target.version is null then
        return jsonb_build_object('code', 'unknown_version', 'field', 'target', 'detail', case
            when p_data ? 'target' then format('no registered file has the version %s', p_data ->> 'target')
            else 'no file is registered' end);
    end if;
    v_refusal := refuse_members(p_options);
    if v_refusal is not null then
        return v_refusal;
    end if;
    if p_options ? 'canary' and (p_options ->> 'canary')::uuid not in (select members(p_options)) then
        return jsonb_build_object('code', 'unknown_tenant', 'field', 'canary', 'detail',
            'the canary is not among the tenants that the run is for, or has no database in use');
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
        select f.name, l.later, l.ledger_id into v
        from (
            select ledger_id, versions, (select max(g.name collate "C") from file g where g.version = any (versions)) as later
            from ledger
            where exists (select from tenant t where t.ledger_id = ledger.ledger_id and t.tenant_id in (select members(p_options)))
        ) l
        join file f on f.name collate "C" < l.later
        where f.version = any (p_versions)
          and not l.versions @> array[f.version]
        order by f.name collate "C"
        limit 1;
        if found then
            return jsonb_build_object('code', 'out_of_order', 'field', 'out_of_order', 'detail',
                format('%s sorts before %s, and only the later one is on: %s', v.name, v.later,
                       name_tenants(array(select t.tenant_id from tenant t
                                          where t.ledger_id = v.ledger_id and t.tenant_id in (select members(p_options))))));
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

create or replace function migrator.add_members(p_run migrator.run) returns void
language plpgsql
as $$
declare
    -- Compared once for each set of versions, not for each tenant.
    v_complete bigint[] := array(select ledger_id from ledger where versions @> p_run.versions);
begin
    insert into job (run_id, tenant_id, wave, place, state)
    select p_run.run_id, f.tenant_id, 0,
        coalesce((select max(place) from job where run_id = p_run.run_id), 0)
            + row_number() over (order by (f.tenant_id::text = p_run.options ->> 'canary') is true desc, f.labels @> '{staging}' desc, f.labels @> '{canary}' desc, f.suspended, md5(f.tenant_id::text)),
        case when t.ledger_id = any (v_complete) then 'current' else 'waiting' end
    from provisioner.fleet f
    left join tenant t using (tenant_id)
    where f.tenant_id in (select members(p_run.options))
      and not exists (select from job j where j.run_id = p_run.run_id and j.tenant_id = f.tenant_id);
    update job j
    set state = 'left', ended_at = clock_timestamp()
    where j.run_id = p_run.run_id
      and j.state = 'waiting'
      and not exists (select from provisioner.fleet f where f.tenant_id = j.tenant_id);
    update job j
    set state = case when t.ledger_id = any (v_complete) and j.brought = '{}' then 'current' else 'waiting' end,
        attempts = 0, next_at = clock_timestamp(), ended_at = null,
        marked = case when j.state <> 'done' then j.marked end -- it has lost what was noted, and perhaps what was done by hand
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

-- Why nothing can be done any more about a run that has ended, or null: all its files are needed to read a tenant's ledger, and its jobs
-- to know whom it was for.
create function migrator.why_not_again(p_run migrator.run) returns text
language sql stable
as $$
    select case
        when (p_run).ended_at is null then null
        when not exists (select from job where run_id = (p_run).run_id) then 'it ended so long ago that its tenants are forgotten'
        else (select format('not registered any more: %s; register what the run brought', left(string_agg(v, ', '), 300))
              from unnest((p_run).versions) v
              where v not in (select version from file)
              having count(*) > 0)
        end
$$;

-- As before; a soak that follows begins anew, and a forecast goes on: what it said of those who are tried again counts no more.
create or replace function migrator.retry_jobs(
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
    detail := why_not_again(p_run);
    if detail is not null then
        code := 'wrong_state';
        return;
    end if;
    update job j
    set state = case j.state when 'failed' then 'waiting' else 'undo_waiting' end,
        attempts = 0,
        next_at = clock_timestamp(),
        ended_at = null,
        forecast = case j.forecast when 'failed' then 'skipped' else j.forecast end,
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
    else
        update run set soak_left = null where run_id = p_run.run_id; -- those tried again are watched as long as the others
        if p_run.state <> 'paused' then
            perform forgive(p_run.run_id);
            if p_run.state in ('forecasting', 'halted') then
                perform begin_wave(p_run.run_id);
            else
                perform set_run_state(p_run.run_id, 'running', null, null);
            end if;
        end if;
    end if;
end
$$;

-- As before, with signals.
create or replace function migrator.accept_command(p_event jsonb, p_data jsonb) returns void
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
                perform forgive(v.run_id);
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
            if v.state not in ('forecasting', 'running', 'soaking', 'paused', 'halted', 'completed', 'cancelled', 'rolled_back')
                or (v.options ->> 'dry_run')::boolean then
                v_code := 'wrong_state';
                v_detail := null;
            elsif v.ended_at is not null and stands_on(v) is not null then
                v_code := 'wrong_state';
                v_detail := format('run %s has not ended, or has brought later files: roll it back first', stands_on(v));
            elsif why_not_again(v) is not null then
                v_code := 'wrong_state';
                v_detail := why_not_again(v);
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
        when 'signal' then
            select code, detail into v_code, v_detail from accept_signal(v, p_data);
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

create or replace function migrator.accept_event(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    case p_event ->> 'type'
        when 'migration.register.requested.v1' then perform accept_file(p_event, p_data);
        when 'migration.withdraw.requested.v1' then perform withdraw_file(p_event, p_data);
        when 'migration.run.requested.v1' then perform accept_run(p_event, p_data);
        when 'migration.drift.requested.v1' then perform accept_drift(p_event, p_data);
        else perform accept_command(p_event, p_data);
    end case;
end
$$;

grant execute on all functions in schema migrator to tenantry_migrator;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
