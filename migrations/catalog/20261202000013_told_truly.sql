-- What is left of a soak survives a resume that waits for a look into a probe; differences that nobody can name are not told; and the
-- probes of a run that has ended stay as its last snapshot shows them.
-- migrate:up
set local check_function_bodies = off;

-- As before; a run that is resumed may be forecasting first.
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
        perform catalog.resolve_alert(v_alert);
        perform catalog.raise_alert(v_alert, null, format('a rollout has ended: %s', replace(p_state, '_', ' ')),
            format('run %s to %s: %s', v.number, v.target, coalesce(p_detail, 'all as planned')));
    elsif p_state in ('forecasting', 'running', 'rolling_back') then
        perform catalog.resolve_alerts('migration-run:%', '{}');
    end if;
    perform show_run(p_run_id);
end
$$;

-- As before; nulls where one of the two has too many objects for the catalog to keep: all of the other's would seem to differ.
create or replace function migrator.schema_differences(p_from bigint, p_to bigint) returns jsonb
language sql stable
as $$
    with usual as (
        select key, value from fingerprint f, jsonb_each_text(f.objects) where f.fingerprint_id = p_from
    ), has as (
        select key, value from fingerprint f, jsonb_each_text(f.objects) where f.fingerprint_id = p_to
    )
    select case when exists (select from fingerprint where fingerprint_id in (p_from, p_to) and objects is null)
        then '{"missing": null, "extra": null, "changed": null}'
        else jsonb_build_object(
            'missing', to_jsonb(array(select key from usual where key not in (select key from has) order by key limit 50)),
            'extra', to_jsonb(array(select key from has where key not in (select key from usual) order by key limit 50)),
            'changed', to_jsonb(array(select key from usual join has using (key) where usual.value <> has.value order by key limit 50)))
        end
$$;

-- As before, but not of a run that has ended meanwhile: nobody would tell its watchers.
create or replace function migrator.note_probe(p_run_id uuid, p_tenant_id uuid, p_found jsonb) returns void
language sql
as $$
    update probe p
    set before = coalesce(p.before, p_found, '{}'),
        first = case when p.before is not null then coalesce(p.first, p_found) end,
        latest = case when p.before is not null then coalesce(p_found, p.latest) end,
        unreachable = case when p.before is not null and p_found is null then p.unreachable + 1 else 0 end
    from run r
    where p.run_id = p_run_id
      and p.tenant_id = p_tenant_id
      and r.run_id = p_run_id
      and r.ended_at is null
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
