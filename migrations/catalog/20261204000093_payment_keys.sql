-- A failure that Stripe has saved under a payment's key is its answer to that key for a day: a customer who had chosen a new card, and
-- was to be tried at once, waited that long. The next try has a new key; an invoice is paid once by whatever key.
-- migrate:up
set local check_function_bodies = off;

alter table billing.payment add column keys_spent int not null default 0;

-- As before, with the number of the key.
drop function billing.take_payments;
create function billing.take_payments(p_limit int, p_lease_ms bigint, p_per_second float8)
returns table (invoice_id text, payment_method text, attempts int, keys_spent int)
language plpgsql
as $$
#variable_conflict use_column
declare
    v payment;
    v_wait bigint;
begin
    for v in
        select *
        from payment
        where state = 'wanted'
          and next_at <= clock_timestamp()
          and (taken_until is null or taken_until < clock_timestamp())
        order by next_at
        limit p_limit
        for update skip locked
    loop
        if not exists (
            select
            from object o
            join tenant t using (tenant_id)
            join object s on s.kind = 'subscription' and s.object_id = o.facts ->> 'subscription'
            where o.kind = 'invoice'
              and o.object_id = v.invoice_id
              and o.facts ->> 'status' = 'open'
              and not s.is_terminal
              and not s.is_deleted
              and t.lifecycle = 'live') then
            update payment set state = 'void' where invoice_id = v.invoice_id and payment_method = v.payment_method;
            continue;
        end if;
        if not v.has_turn then
            select t.wait_ms into v_wait from catalog.take_token('stripe:calls', p_per_second / 2, p_per_second / 2) t;
            if v_wait > 50 then
                update payment
                set has_turn = true, next_at = clock_timestamp() + v_wait * interval '1 ms'
                where invoice_id = v.invoice_id and payment_method = v.payment_method;
                continue;
            end if;
        end if;
        update payment
        set has_turn = false, attempts = attempts + 1, taken_until = clock_timestamp() + p_lease_ms * interval '1 ms'
        where invoice_id = v.invoice_id and payment_method = v.payment_method;
        return query select v.invoice_id, v.payment_method, v.attempts + 1, v.keys_spent;
    end loop;
end
$$;

-- What Stripe said to the attempt of that number; its events say what follows. p_delay_ms: it is to be tried again; null: that was its
-- answer. After a failure that Stripe had saved, the key is of no use. Whose lease has ended while it waited says nothing any more.
create function billing.payment_tried(p_invoice_id text, p_payment_method text, p_attempt int, p_outcome text, p_delay_ms bigint)
returns void
language sql
as $$
    update billing.payment
    set state = case when p_delay_ms is null then 'done' else state end, outcome = p_outcome, taken_until = null,
        next_at = case when p_delay_ms is null then next_at else clock_timestamp() + p_delay_ms * interval '1 ms' end,
        keys_spent = keys_spent + case when p_outcome = 'stripe_saved_failure' then 1 else 0 end
    where invoice_id = p_invoice_id
      and payment_method = p_payment_method
      and (attempts = p_attempt or p_delay_ms is null)
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
