-- Who was here before billing may use everything until it subscribes: its entitlements named no module, and a product that asks them
-- would have closed itself on the day on which billing was switched on.
-- migrate:up
set local check_function_bodies = off;

-- What a tenant may use, by what its subscription is and by its override while that holds. Who is exempt has what any plan has, and no
-- limits.
create or replace function billing.entitlements_of(t billing.tenant, p_subscription jsonb) returns jsonb
language plpgsql stable
as $$
declare
    v_plan plan;
    v_override jsonb := case when p_subscription ->> 'reason' = 'override' then t.override end;
    v_limits jsonb;
begin
    if p_subscription ->> 'reason' = 'exempt' then
        v_plan.modules := (
            select jsonb_agg(m.name order by m.place, m.nth)
            from (
                select distinct on (x.value) x.value as name, p.place, x.nth
                from plan p, jsonb_array_elements(p.modules) with ordinality x (value, nth)
                where p.is_offered
                order by x.value, p.place, x.nth) m);
    else
        select * into v_plan from plan where plan_id = p_subscription ->> 'plan';
    end if;
    v_limits := coalesce(v_plan.limits, '{}') || coalesce(v_override -> 'limits', '{}');
    return jsonb_build_object('plan', v_plan.plan_id, 'modules', coalesce(v_override -> 'modules', v_plan.modules, '[]'),
        'limits', v_limits, 'over', case when t.usage is null then '[]' else over(v_limits, t.usage) end);
end
$$;

-- A plan that sells something else now: who has it is told, and who has what any plan has.
create or replace function billing.plan_changed() returns trigger
language plpgsql
as $$
begin
    perform set_timer('settle', tenant_id::text, catalog.business_now())
    from tenant
    where subscription ->> 'plan' = new.plan_id
       or subscription ->> 'reason' = 'exempt';
    return null;
end
$$;

insert into catalog.timer (service, name, key, due_at)
select 'billing', 'settle', tenant_id::text, catalog.business_now()
from billing.tenant
where lifecycle = 'live'
  and subscription ->> 'reason' = 'exempt'
on conflict (service, name, key) do update
    set due_at = least(timer.due_at, excluded.due_at);

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
