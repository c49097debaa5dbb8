-- Which plan a price made by hand is of.
-- migrate:up
set local check_function_bodies = off;

-- The plan of a subscription's price: {plan, interval}. By lookup key, which a newer price may have taken over; then by what the
-- price says of itself; then by its product, which `tenantry stripe setup` names after the plan.
create or replace function billing.plan_of_prices(p_prices jsonb, out plan text, out period text)
language plpgsql stable
as $$
declare
    v jsonb;
begin
    for v in select value from jsonb_array_elements(p_prices) loop
        select p.plan_id into plan from price p where p.lookup_key = v ->> 'lookup_key';
        if plan is null then
            select p.plan_id into plan from plan p where p.plan_id = v ->> 'plan';
        end if;
        if plan is null and v ->> 'product' like 'tenantry\_%' then
            select p.plan_id into plan from plan p where p.plan_id = substr(v ->> 'product', length('tenantry_') + 1);
        end if;
        if plan is not null then
            period := v ->> 'interval';
            return;
        end if;
    end loop;
end
$$;

create or replace function billing.plan_of_price(p_price text, out plan text, out period text)
language sql stable
as $$
    select p.plan, p.period
    from object o,
        plan_of_prices(jsonb_build_array(jsonb_build_object('lookup_key', o.body -> 'lookup_key',
            'plan', o.body #> '{metadata,plan}', 'interval', o.body #> '{recurring,interval}',
            'product', coalesce(o.body #> '{product,id}', o.body -> 'product')))) p
    where o.kind = 'price'
      and o.object_id = p_price
$$;

-- Who has such a price already gets its plan.
insert into catalog.timer (service, name, key, due_at)
select 'billing', 'settle', tenant_id::text, catalog.business_now()
from catalog.alert
where cause like 'billing-unknown-price:%'
  and tenant_id is not null
  and resolved_at is null
on conflict (service, name, key) do update
    set due_at = least(timer.due_at, excluded.due_at);

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
