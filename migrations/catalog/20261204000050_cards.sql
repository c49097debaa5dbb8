-- Which card is tried at once, whatever comes first; which plan a price made by hand is of; and how long billing keeps what.
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
set search_path = billing, durable, catalog, pg_temp
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

-- What is kept.

-- Members of an object's body that say who somebody is or how he pays, as the release before has stored them: programs leave them
-- out since (common/contracts/stripe_event.c).
create function billing.personal_members() returns text[]
language sql immutable
as $$
    select array['address', 'billing_details', 'card', 'collected_information', 'custom_fields', 'customer_address',
        'customer_details', 'customer_email', 'customer_name', 'customer_phone', 'customer_shipping', 'customer_tax_ids',
        'description', 'email', 'evidence', 'name', 'payment_method_details', 'phone', 'receipt_email', 'shipping', 'source',
        'sources']
$$;

-- What billing goes by in such a body, and no more.
create function billing.shortened(p_body jsonb) returns jsonb
language sql immutable
as $$
    select jsonb_strip_nulls(jsonb_build_object('id', p_body -> 'id', 'object', p_body -> 'object', 'created', p_body -> 'created',
        'due_date', p_body -> 'due_date',
        'customer', coalesce(p_body #> '{customer,id}', p_body -> 'customer'),
        'default_payment_method', coalesce(p_body #> '{default_payment_method,id}', p_body -> 'default_payment_method'),
        'lookup_key', p_body -> 'lookup_key', 'product', coalesce(p_body #> '{product,id}', p_body -> 'product'),
        'recurring', p_body -> 'recurring',
        'metadata', jsonb_build_object('tenant_id', p_body #> '{metadata,tenant_id}', 'plan', p_body #> '{metadata,plan}')))
$$;

create function billing.shorten() returns trigger
language plpgsql
set search_path = billing, durable, catalog, pg_temp
as $$
begin
    new.body := shortened(new.body);
    return new;
end
$$;
-- By a program of the release before. The list stands in it as it is: a function there would be called for each row.
do $$
begin
    execute format(
        'create trigger shorten before insert or update of body on billing.object for each row
         when (new.body ?| %L::text[])
         execute function billing.shorten()', billing.personal_members());
end
$$;

-- Stored by the release before, and not shortened yet: see shorten_bodies.
create table billing.long_body (
    kind text not null,
    object_id text not null,
    primary key (kind, object_id),
    foreign key (kind, object_id) references billing.object on delete cascade
);
grant select, insert, update, delete on billing.long_body to tenantry_billing;
insert into billing.long_body (kind, object_id)
select kind, object_id
from billing.object
where body ?| billing.personal_members();

update billing.event
set kept = jsonb_set(kept, '{object,body}', billing.shortened(kept #> '{object,body}'))
where outcome in ('parked', 'quarantined')
  and kept #> '{object,body}' ?| billing.personal_members();

create function billing.shorten_bodies(p_piece int) returns bigint
language plpgsql
as $$
declare
    v_count bigint;
begin
    with mine as (
        select o.kind, o.object_id
        from long_body l
        join object o using (kind, object_id)
        limit p_piece
        for update of o skip locked
    ), shortened as (
        update object o
        set body = shortened(o.body)
        from mine m
        where o.kind = m.kind
          and o.object_id = m.object_id
          and o.body ?| personal_members()
    )
    delete from long_body l
    using mine m
    where l.kind = m.kind
      and l.object_id = m.object_id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- gone_at: real time: since when the tenant is deleted.
alter table billing.tenant add column gone_at timestamptz;
update billing.tenant set gone_at = clock_timestamp() where lifecycle = 'gone';
create index tenant_gone on billing.tenant (gone_at) where gone_at is not null;
create index payment_of_tenant on billing.payment (tenant_id);

create function billing.note_gone() returns trigger
language plpgsql
as $$
begin
    new.gone_at := case when new.lifecycle = 'gone' then coalesce(new.gone_at, clock_timestamp()) end;
    return new;
end
$$;
create trigger note_gone before insert or update of lifecycle on billing.tenant for each row execute function billing.note_gone();

create function billing.kept_of_gone() returns interval language sql immutable as $$ select interval '30 days' $$;

-- Of a tenant that was deleted so long ago is kept: whose its customers at Stripe were, and its subscriptions, without their bodies.
-- By these a comparison with Stripe, which names ended ones for ever, finds that nothing is missing.
create function billing.forget_gone(p_piece int) returns bigint
language plpgsql
as $$
declare
    v_count bigint;
    v_all bigint := 0;
begin
    delete from object
    where ctid = any (array(select o.ctid
                            from tenant t
                            join object o using (tenant_id)
                            where t.gone_at < statement_timestamp() - kept_of_gone()
                              and o.kind <> 'subscription'
                            limit p_piece
                            for update of o skip locked));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    delete from object -- a card that was taken from its customer is nobody's
    where ctid = any (array(select o.ctid
                            from tenant t
                            join customer c using (tenant_id)
                            join object o on o.customer_id = c.customer_id and o.tenant_id is null and o.kind <> 'subscription'
                            where t.gone_at < statement_timestamp() - kept_of_gone()
                            limit p_piece
                            for update of o skip locked));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    update object
    set body = '{}'
    where ctid = any (array(select o.ctid
                            from tenant t
                            join object o using (tenant_id)
                            where t.gone_at < statement_timestamp() - kept_of_gone()
                              and o.kind = 'subscription'
                              and o.body <> '{}'
                            limit p_piece
                            for update of o skip locked));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    delete from mail
    where ctid = any (array(select m.ctid
                            from tenant t
                            join mail m using (tenant_id)
                            where t.gone_at < statement_timestamp() - kept_of_gone()
                            limit p_piece));
    get diagnostics v_count = row_count;
    v_all := v_all + v_count;

    delete from payment
    where ctid = any (array(select p.ctid
                            from tenant t
                            join payment p using (tenant_id)
                            where t.gone_at < statement_timestamp() - kept_of_gone()
                            limit p_piece));
    get diagnostics v_count = row_count;
    return v_all + v_count;
end
$$;
grant delete on billing.mail, billing.payment to tenantry_billing;

-- Events are numbered as they come, so the oldest are the first.
create function billing.forget_events(p_piece int) returns bigint
language plpgsql
as $$
declare
    v_count bigint;
begin
    delete from event
    where event_id = any (array(select x.event_id
                                from (select event_id, at from event order by number limit p_piece) x
                                where x.at < statement_timestamp() - interval '400 days'));
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- What any service forgets, and what only billing has.
create function billing.prune() returns bigint
language plpgsql
as $$
declare
    c_piece constant int := 1000;
begin
    return durable.prune() + shorten_bodies(c_piece) + forget_gone(c_piece) + forget_events(c_piece);
end
$$;

-- What compare_replica finds, without what is none: a fact that only one of the two knows (programs of two releases keep different
-- facts), and what was forgotten of deleted tenants.
create function billing.replica_differences(
    p_schema text, p_is_whole boolean,
    out kind text, out id text, out tenant_id uuid, out verdict text, out here jsonb, out rebuilt jsonb
) returns setof record
language sql
as $$
    select c.*
    from billing.compare_replica(p_schema, p_is_whole) c
    left join billing.tenant t on t.tenant_id = c.tenant_id and t.gone_at < statement_timestamp() - billing.kept_of_gone()
    where (t.tenant_id is null or (c.kind <> 'tenant' and c.here is not null))
      and (c.kind = 'tenant' or c.here is null or c.rebuilt is null
           or exists (select
                      from jsonb_each(c.here) h
                      join jsonb_each(c.rebuilt) r using (key)
                      where h.value <> r.value))
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
