-- What is asked of Stripe for a tenant that was archived or deleted meanwhile, or for the end of one that is live again, is not sent
-- any more. And a tenant may have subscriptions under a customer that is another's: sold by hand, to who has two tenants.
-- migrate:up
set local check_function_bodies = off;

-- Why a call is not to be sent, though it may have been, if it was frozen: what it was asked for does not hold any more, since the tenant is archived (or
-- gone), or live. Null: it is to be sent. What a duplicate cost goes back whatever the tenant is.
create function billing.void_call(p_saga_id uuid) returns text
language plpgsql stable
as $$
begin
    return (
        select case
            when s.kind = 'end_duplicate' then null
            when s.kind = 'end_subscription' then case when 'live' in (t.lifecycle, l.lifecycle) then 'live' end
            when t.lifecycle <> 'live' then 'archived' end
        from saga s
        join tenant t using (tenant_id)
        join provisioner.tenant_life l using (tenant_id)
        where s.saga_id = p_saga_id);
end
$$;

-- As before; its customers are also those under which it has a subscription, though they are another tenant's.
create or replace function billing.saga_context(p_tenant_id uuid) returns jsonb
language sql stable
as $$
    select jsonb_build_object('tenant_id', t.tenant_id, 'lifecycle', t.lifecycle, 'slug', l.slug, 'company', l.company,
        'email', l.email, 'plan', t.subscription -> 'plan', 'subscription_id', t.subscription -> 'subscription_id',
        'now', floor(extract(epoch from catalog.business_now()))::bigint,
        'trial_end', case when t.subscription ->> 'status' = 'trial' and not t.subscription ? 'subscription_id'
                          then floor(extract(epoch from coalesce((t.subscription ->> 'trial_end')::timestamptz,
                              catalog.business_now() + (select trial_days from settings) * interval '1 day')))::bigint end,
        'customers', (select coalesce(jsonb_agg(c.customer_id order by c.is_other, c.since desc, c.customer_id), '[]')
                      from (
                          select customer_id, since, false as is_other from customer where tenant_id = p_tenant_id
                          union all
                          select o.customer_id, max(o.seen), true
                          from object o
                          where o.tenant_id = p_tenant_id
                            and o.kind = 'subscription'
                            and o.customer_id is not null
                            and not exists (select from customer own
                                            where own.customer_id = o.customer_id and own.tenant_id = p_tenant_id)
                          group by o.customer_id) c
                      where not exists (select from object o
                                        where o.kind = 'customer' and o.object_id = c.customer_id and o.is_deleted)))
    from tenant t
    join provisioner.tenant_life l using (tenant_id)
    where t.tenant_id = p_tenant_id
$$;

-- As before, also for who has a subscription and no customer of its own.
create or replace function billing.end_if_over(t billing.tenant, p_live text) returns void
language plpgsql
as $$
begin
    if t.lifecycle = 'live' then
        if t.ended then
            update tenant set ended = false where tenant_id = t.tenant_id;
        end if;
        return;
    end if;
    if (p_live is null and (t.ended or not exists (select from customer where tenant_id = t.tenant_id)))
        or exists (select from request where tenant_id = t.tenant_id and kind = 'end_subscription') then
        return;
    end if;
    if (select has_stripe from settings) then
        perform ask_stripe(t.tenant_id, 'end_subscription',
            (select jsonb_build_object('id', caused_by, 'traceparent', traceparent) from provisioner.tenant_cause
             where tenant_id = t.tenant_id), '{}');
    elsif p_live is not null then
        perform catalog.raise_alert('billing-end:' || t.tenant_id, t.tenant_id,
            'a tenant that is archived or gone has a subscription still',
            format('billing has no key of Stripe''s: end %s there', p_live));
    end if;
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
