-- Which card is tried at once, whatever comes first; and which plan a price made by hand is of.
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

-- Cards.

-- chosen_at: of a customer or a subscription: second in which an event told of another card than before.
alter table billing.object add column chosen_at bigint;

-- asked: a card of which it is not known yet how old it is: Stripe is asked.
alter table billing.payment
    drop constraint payment_state_check,
    add constraint payment_state_check check (state in ('known', 'wanted', 'done', 'void', 'asked'));

-- What Stripe answers is of the second of its answer; the choice may be much older than that, and than a failure.
create function billing.note_choice() returns trigger
language plpgsql
set search_path = billing, durable, pg_temp
as $$
begin
    if not exists (
        select from wanted_object where kind = new.kind and object_id = new.object_id and taken_until is not null) then
        new.chosen_at := new.seen;
    end if;
    return new;
end
$$;
create trigger note_choice before update of facts on billing.object for each row
    when (new.kind in ('customer', 'subscription')
        and old.facts ? 'default_payment_method' -- else it was stored by a program that did not look at it
        and new.facts ->> 'default_payment_method' is distinct from old.facts ->> 'default_payment_method')
    execute function billing.note_choice();

-- With which cards the tenant's invoice that fails is paid: with its subscription's own, and with its customer's. What is decided of
-- a card follows from what is stored, not from what came first: it is tried at once if it is younger than the failure, or was chosen
-- after it in the place of another; else it is the one that failed, or one that its owner could have chosen. The subscription's own
-- is looked for in its body too: a program of the release before has stored it without that fact.
create function billing.cards_of(p_subscription text, p_invoice billing.object) returns table (card text, state text)
language sql stable
as $$
    select c.card,
        case when min(c.chosen_at) > v.failed_at or max((m.body ->> 'created')::bigint) > v.failed_at then 'wanted'
             when max(m.seen) is null then 'asked'
             else 'known' end
    from (select coalesce(p_invoice.first_failure, p_invoice.seen) as failed_at) v,
        lateral (
            select coalesce(o.facts ->> 'default_payment_method', o.body #>> '{default_payment_method,id}',
                            o.body ->> 'default_payment_method') as card,
                coalesce(o.chosen_at, 0) as chosen_at
            from object o
            where o.kind = 'subscription'
              and o.object_id = p_subscription
            union all
            select o.facts ->> 'default_payment_method', coalesce(o.chosen_at, 0)
            from object o
            where o.kind = 'customer'
              and o.object_id = p_invoice.customer_id) c
    left join object m on m.kind = 'payment_method' and m.object_id = c.card
    where c.card is not null
    group by c.card, v.failed_at
$$;

-- Stripe tries a failed payment again after days. A card that its customer has chosen since is tried at once, and once.
create or replace function billing.want_payment(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v_live object;
    v_invoice object;
    v_card text;
begin
    if not exists (
        select
        from object o
        where o.tenant_id = p_tenant_id
          and o.kind = 'invoice'
          and o.facts ->> 'status' = 'open') then
        return; -- as nearly always
    end if;
    v_live := live_subscription(p_tenant_id);
    v_invoice := failing_invoice(p_tenant_id, v_live.object_id);
    if v_invoice.object_id is null or v_invoice.facts ->> 'status' <> 'open'
        or (select lifecycle from tenant where tenant_id = p_tenant_id) <> 'live' then
        return;
    end if;
    for v_card in
        insert into payment as p (invoice_id, payment_method, tenant_id, state)
        select v_invoice.object_id, c.card, p_tenant_id, c.state
        from cards_of(v_live.object_id, v_invoice) c
        on conflict (invoice_id, payment_method) do update
            set state = excluded.state
            where p.state = 'asked' and excluded.state <> 'asked'
               or p.state = 'known' and excluded.state = 'wanted'
        returning case when p.state = 'asked' then p.payment_method end
    loop
        if v_card is not null then -- once: what Stripe does not have is never known
            perform want_object('payment_method', v_card, null, 'card');
        end if;
    end loop;
end
$$;

-- Whatever is told of its customer, subscription, invoice or card, by an event or by an answer.
drop trigger follow_object on billing.object;
create trigger follow_object after insert or update of facts, tenant_id, first_failure on billing.object for each row
    when (new.tenant_id is not null and new.kind in ('customer', 'subscription', 'invoice', 'payment_method'))
    execute function billing.follow_object();

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
