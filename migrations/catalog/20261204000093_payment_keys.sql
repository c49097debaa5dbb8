-- A failure that Stripe has saved under a payment's key is its answer to that key for a day: a customer who had chosen a new card, and
-- was to be tried at once, waited that long. The next try has a new key; an invoice is paid once by whatever key.
-- migrate:up
set local check_function_bodies = off;

alter table billing.payment add column keys_spent int not null default 0;

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
