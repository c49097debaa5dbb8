-- What follows when nobody pays: mails, and at last the archive. Which mails are due is a pure function of what is known of a
-- tenant and of the time, as its subscription is; what was sent is one row for each mail of one cause.
-- migrate:up
set local check_function_bodies = off;

-- link_asked_at: when somebody last wanted a new link to the tenant's pages.
-- access_ended: since when the tenant has no access, as it was seen then: the name of what its last mails and its archive are about.
-- archive_held: too many would have been archived at once; archive_released: somebody has looked at them.
alter table billing.tenant
    add column access_ended timestamptz,
    add column link_asked_at timestamptz,
    add column archive_held boolean not null default false,
    add column archive_released boolean not null default false;
update billing.tenant set access_ended = (subscription ->> 'access_ended')::timestamptz where access = 'none';
create index tenant_without_access on billing.tenant (tenant_id) where access = 'none' and lifecycle = 'live';
create index tenant_archive_held on billing.tenant (tenant_id) where archive_held;

-- action_since: of an invoice: second in which the bank first asked for its customer.
alter table billing.object add column action_since bigint;

-- Each mail of one cause once. void: it was not true any more when it was to go; it may be true again.
create table billing.mail (
    tenant_id uuid not null,
    kind text not null check (kind in ('trial_ending', 'payment_failed', 'payment_action_required', 'suspended', 'archive_notice',
                                    'billing_link')),
    step int not null, -- of payment_failed: day 0, 3, 6; of archive_notice: 7 or 1 days before
    cause text not null, -- what it is about: the end of the trial, an invoice, the end of access
    message_id text not null unique, -- follows from those four: the same however often it is sent
    state text not null default 'waiting' check (state in ('waiting', 'sent', 'void')),
    due_at timestamptz not null, -- business time
    created_at timestamptz not null default clock_timestamp(),
    next_at timestamptz not null default clock_timestamp(), -- real time: when it is tried
    attempts int not null default 0,
    taken_at timestamptz,
    taken_until timestamptz, -- a process sends it
    has_turn boolean not null default false, -- under the budget of calls to Stripe, where it needs one
    error text,
    sent_at timestamptz, -- business time
    watched interval, -- billing.watched when it was sent
    primary key (tenant_id, kind, step, cause)
);
create index mail_waiting on billing.mail (next_at) where state = 'waiting';

-- How much business time billing's processes have seen pass. What nobody watched does not count.
create table billing.watched (
    only_row boolean primary key default true check (only_row),
    total interval not null default '0',
    at timestamptz not null, -- real time of the last look
    until timestamptz not null -- business time of the last look
);
insert into billing.watched (at, until) values (clock_timestamp(), catalog.business_now());

-- With which cards an open invoice is to be paid at once, each once. known: Stripe tried it, or its owner had it before.
create table billing.payment (
    invoice_id text not null,
    payment_method text not null,
    tenant_id uuid not null,
    state text not null check (state in ('known', 'wanted', 'done', 'void')),
    next_at timestamptz not null default clock_timestamp(), -- real time
    attempts int not null default 0,
    has_turn boolean not null default false, -- under the budget of calls to Stripe
    taken_until timestamptz,
    outcome text, -- what Stripe said
    primary key (invoice_id, payment_method)
);
create index payment_wanted on billing.payment (next_at) where state = 'wanted';

grant select, insert, update on billing.mail, billing.watched, billing.payment to tenantry_billing;

create function billing.notice_days() returns int[] language sql immutable as $$ select array[7, 1] $$;
create function billing.notice_watched() returns interval language sql immutable as $$ select interval '24 hours' $$;

-- The oldest invoice of a subscription that was not paid: see failing_since.
create function billing.failing_invoice(p_tenant_id uuid, p_subscription text) returns billing.object
language plpgsql stable
as $$
declare
    v object;
begin
    select * into v
    from object o
    where o.tenant_id = p_tenant_id
      and o.kind = 'invoice'
      and o.facts ->> 'status' in ('open', 'uncollectible')
      and o.facts ->> 'subscription' = p_subscription
      and o.facts ->> 'billing_reason' is distinct from 'subscription_update'
      and (o.first_failure is not null or (o.facts ->> 'attempt_count')::int > 0)
    order by (o.facts ->> 'created')::bigint, o.object_id
    limit 1;
    return v;
end
$$;

-- All mails that what is known now leads to, with the time in which each is true. A pure function of that and of the instant.
create function billing.mails_due(t billing.tenant, p_now timestamptz)
returns table (kind text, step int, cause text, due_at timestamptz, until timestamptz)
language plpgsql stable
as $$
#variable_conflict use_column
declare
    s jsonb := subscription_of(t, p_now);
    v_trial_end timestamptz := s ->> 'trial_end';
    v_failing timestamptz := (s ->> 'grace_until')::timestamptz - grace_days() * interval '1 day';
    v_archive_at timestamptz := s ->> 'archive_at';
    v_ended timestamptz := coalesce(t.access_ended, (s ->> 'access_ended')::timestamptz);
    v_invoice object;
begin
    if t.lifecycle <> 'live' then
        return;
    end if;
    if t.link_asked_at is not null then
        return query select 'billing_link', 0, catalog.json_time(t.link_asked_at), t.link_asked_at, t.link_asked_at + interval '1 hour';
    end if;
    if s ->> 'status' = 'trial' and v_trial_end is not null and not s ? 'subscription_id' then -- who has chosen needs none
        return query select 'trial_ending', 0, catalog.json_time(v_trial_end),
            greatest(v_trial_end - interval '2 days', t.ready_at), v_trial_end;
    end if;
    if s ->> 'status' = 'past_due' then
        v_invoice := failing_invoice(t.tenant_id, s ->> 'subscription_id');
        return query
        select 'payment_failed', x.day, coalesce(v_invoice.object_id, s ->> 'subscription_id'),
            v_failing + x.day * interval '1 day' + case x.day when 0 then interval '2 minutes' else '0' end,
            v_failing + x.next_day * interval '1 day'
        from (values (0, 3), (3, 6), (6, grace_days())) x (day, next_day)
        -- That the bank asks for its customer is told a moment later than that the payment failed, and makes the better mail.
        where x.day > 0
           or v_invoice.action_since is null;
    end if;
    return query
    select 'payment_action_required', 0, o.object_id, to_timestamp(o.action_since), to_timestamp(o.action_since) + interval '7 days'
    from object o
    where o.tenant_id = t.tenant_id
      and o.kind = 'invoice'
      and o.action_since is not null
      and o.facts ->> 'status' = 'open'
      and o.facts ->> 'subscription' = s ->> 'subscription_id'
      and o.facts ->> 'billing_reason' is distinct from 'subscription_create'; -- whoever subscribes is asked at once
    if t.access = 'none' and s ->> 'access' = 'none' then -- not who is held back from being suspended
        return query
        select x.kind, x.step, catalog.json_time(v_ended), x.due_at, x.until
        from (values ('suspended', 0, v_ended, v_archive_at - interval '7 days'),
                     ('archive_notice', 7, v_archive_at - interval '7 days', v_archive_at - interval '1 day'),
                     ('archive_notice', 1, v_archive_at - interval '1 day', 'infinity'::timestamptz)) x (kind, step, due_at, until)
        where x.kind = 'suspended'
           or not exists ( -- somebody has brought it back from this very archive
                select from catalog.lifecycle_wanted l
                where l.tenant_id = t.tenant_id and l.source = 'billing' and l.overruled = catalog.json_time(v_ended));
    end if;
end
$$;

create function billing.message_id(p_tenant_id uuid, p_kind text, p_step int, p_cause text) returns text
language sql immutable
as $$
    select format('%s-%s-%s-%s@tenantry', replace(p_kind, '_', '-'), p_step, p_tenant_id, left(md5(p_cause), 12))
$$;

-- How long the billing of this installation has watched since the tenant was told of this archive. Null: it was not told.
create function billing.watched_since_notice(p_tenant_id uuid, p_cause text) returns interval
language sql stable
as $$
    select max(w.total - m.watched)
    from billing.mail m, billing.watched w
    where m.tenant_id = p_tenant_id
      and m.kind = 'archive_notice'
      and m.cause = p_cause
      and m.state = 'sent'
$$;

create function billing.put_timer(p_name text, p_tenant_id uuid, p_due_at timestamptz) returns void
language plpgsql
as $$
begin
    if p_due_at is null then
        perform drop_timer(p_name, p_tenant_id::text);
    elsif p_due_at is distinct from
        (select due_at from catalog.timer where service = 'billing' and name = p_name and key = p_tenant_id::text) then
        perform set_timer(p_name, p_tenant_id::text, p_due_at);
    end if;
end
$$;

-- Puts the mails that are due on their way, and has this asked again when the next one is.
create function billing.settle_mails(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    t tenant;
    v_now timestamptz := catalog.business_now();
    v_next timestamptz;
    v_put bigint;
begin
    select * into t from tenant where tenant_id = p_tenant_id;
    with due as (
        select * from mails_due(t, v_now)
    ), put as (
        insert into mail as m (tenant_id, kind, step, cause, message_id, due_at)
        select p_tenant_id, d.kind, d.step, d.cause, message_id(p_tenant_id, d.kind, d.step, d.cause), d.due_at
        from due d
        where d.due_at <= v_now
          and v_now < d.until
        on conflict (tenant_id, kind, step, cause) do update
            set state = 'waiting', attempts = 0, next_at = clock_timestamp(), error = null
            where m.state = 'void'
        returning 1
    )
    select (select min(due_at) from due where due_at > v_now and due_at < until), (select count(*) from put) into v_next, v_put;
    perform put_timer('mails', p_tenant_id, v_next);
    perform plan_archive(t, v_now);
end
$$;

-- When to look whether the tenant is to be archived, or is to be no more.
create function billing.plan_archive(t billing.tenant, p_now timestamptz) returns void
language plpgsql
as $$
declare
    v_cause text := catalog.json_time(t.access_ended);
    v_watched interval;
    v_wish catalog.lifecycle_wanted;
    v_at timestamptz;
begin
    if t.archive_held then
        return; -- decide_archive has set the timer
    end if;
    select * into v_wish from catalog.lifecycle_wanted where tenant_id = t.tenant_id and source = 'billing';
    if t.access = 'full' and v_wish.wanted = 'archived' then
        v_at := p_now;
    elsif t.access = 'none' and t.lifecycle = 'live' and v_wish.wanted is distinct from 'archived'
        and v_wish.overruled is distinct from v_cause then
        v_watched := watched_since_notice(t.tenant_id, v_cause);
        if v_watched is not null then -- else once a notice has been sent
            v_at := greatest((t.subscription ->> 'archive_at')::timestamptz,
                             p_now + greatest(notice_watched() - v_watched, interval '0'));
        end if;
    end if;
    perform put_timer('archive', t.tenant_id, v_at);
end
$$;

-- Whether so many are archived at this time that something is more likely to be wrong: those of whom that was wanted within ten
-- minutes, and those of whom it is to be wanted now; see is_mass_suspension.
create function billing.is_mass_archive(p_tenant_id uuid, p_now timestamptz) returns boolean
language plpgsql
as $$
declare
    v_ended bigint;
    v_ending bigint;
begin
    select count(*) into v_ended
    from catalog.lifecycle_wanted
    where source = 'billing'
      and wanted = 'archived'
      and since > clock_timestamp() - interval '10 minutes';
    select count(*) into v_ending
    from tenant t
    where t.access = 'none'
      and t.lifecycle = 'live'
      and not t.archive_released
      and t.tenant_id <> p_tenant_id
      and (t.subscription ->> 'archive_at')::timestamptz <= p_now
      and not exists (
          select from catalog.lifecycle_wanted l
          where l.tenant_id = t.tenant_id
            and l.source = 'billing'
            and (l.wanted = 'archived' or l.overruled = catalog.json_time(t.access_ended)))
      and exists (
          select
          from mail m, watched w
          where m.tenant_id = t.tenant_id
            and m.kind = 'archive_notice'
            and m.cause = catalog.json_time(t.access_ended)
            and m.state = 'sent'
            and w.total - m.watched >= notice_watched());
    return v_ended + v_ending + 1 > 5
        and (v_ended + v_ending + 1) * 20 > v_ended + (select count(*) from tenant where lifecycle = 'live');
end
$$;

-- Says whether billing wants the tenant archived: thirty days after access ended, when a notice has been delivered and a day has
-- been watched since, in which a payment would have been seen. A transaction of its own: it locks the provisioner's row.
create function billing.decide_archive(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    t tenant;
    v_now timestamptz := catalog.business_now();
    s jsonb;
    v_cause text;
    v_watched interval;
begin
    select * into t from tenant where tenant_id = p_tenant_id for update;
    if not found then
        return;
    end if;
    s := subscription_of(t, v_now);
    if s ->> 'access' = 'full' then
        perform take_archive_back(t);
        return;
    end if;
    v_cause := catalog.json_time(t.access_ended);
    v_watched := watched_since_notice(p_tenant_id, v_cause);
    if t.access <> 'none' or t.lifecycle <> 'live' or v_watched is null or (s ->> 'archive_at')::timestamptz > v_now then
        perform settle_mails(p_tenant_id);
    elsif (select until from watched) < v_now - interval '2 minutes' then
        perform set_timer('archive', p_tenant_id::text, v_now); -- the clock has leapt; the next look says what of that counts
    elsif v_watched < notice_watched() then
        perform set_timer('archive', p_tenant_id::text, v_now + greatest(notice_watched() - v_watched, interval '1 minute'));
    elsif not t.archive_released and is_mass_archive(p_tenant_id, v_now) then
        update tenant set archive_held = true where tenant_id = p_tenant_id and not archive_held;
        perform catalog.raise_alert('billing-mass-archive', null, 'many tenants would be archived at once',
            'they have not paid for long and were told, but more than five and more than a twentieth of all at once may be a fault: '
            'see tenantry billing held; tenantry billing release archives them');
        perform set_timer('archive', p_tenant_id::text, v_now + interval '10 minutes');
    else
        update tenant set archive_held = false where tenant_id = p_tenant_id and archive_held;
        if not t.archive_released then
            perform catalog.resolve_alert('billing-mass-archive');
        end if;
        perform catalog.want_lifecycle(p_tenant_id, 'archived', coalesce(s ->> 'reason', 'cancelled'), v_cause);
    end if;
end
$$;

-- Somebody has paid after all.
create function billing.take_archive_back(t billing.tenant) returns void
language plpgsql
as $$
begin
    if not exists (
        select from catalog.lifecycle_wanted where tenant_id = t.tenant_id and source = 'billing' and wanted = 'archived') then
        return;
    end if;
    perform catalog.want_lifecycle(t.tenant_id, 'live', 'paid', null);
    if (select state from provisioner.tenant_life where tenant_id = t.tenant_id) = 'archived' then
        perform catalog.raise_alert('billing-paid-archived:' || t.tenant_id, t.tenant_id, 'an archived tenant has paid',
            'its payment came after it was archived: tenantry archive restore brings it back');
    end if;
end
$$;

-- Keeps since when a tenant has no access.
create function billing.note_access() returns trigger
language plpgsql
as $$
begin
    if new.lifecycle <> 'live' then
        new.archive_held := false;
    end if;
    if new.access = 'full' then
        new.access_ended := null;
        new.archive_held := false;
        new.archive_released := false;
    elsif new.access_ended is null then
        new.access_ended := coalesce((new.subscription ->> 'access_ended')::timestamptz, catalog.business_now());
    end if;
    return new;
end
$$;
create trigger note_access before insert or update on billing.tenant for each row execute function billing.note_access();

-- Whatever changes about a tenant may make other mails due.
create function billing.follow_tenant() returns trigger
language plpgsql
set search_path = billing, durable, pg_temp
as $$
begin
    perform settle_mails(new.tenant_id);
    return null;
end
$$;
create trigger follow_new_tenant after insert on billing.tenant for each row execute function billing.follow_tenant();
create trigger follow_tenant after update on billing.tenant for each row
    when (old is distinct from new)
    execute function billing.follow_tenant();

-- By an operator, who has looked: suspends and archives those who were held back. Returns how many they were.
create function catalog.release_suspensions(p_by text) returns bigint
language plpgsql security definer
set search_path = billing, durable, pg_temp
as $$
declare
    v_held bigint := (select count(*) from tenant where held or archive_held);
    v_now timestamptz := catalog.business_now();
begin
    if v_held > 0 then
        update settings set released_at = v_now;
        perform set_timer('settle', tenant_id::text, v_now) from tenant where held;
        update tenant set archive_released = true, archive_held = false where archive_held; -- which sets their timers
        perform catalog.resolve_alert('billing-mass-suspension');
        perform catalog.resolve_alert('billing-mass-archive');
        perform catalog.record_deed('billing-mass-suspension', 'suspensions_released', v_held, 'billing-mass-suspension', null, p_by);
    end if;
    return v_held;
end
$$;

revoke execute on function catalog.release_suspensions from public;
grant execute on function catalog.release_suspensions to tenantry_gateway;

create view gateway.held_suspension as
select t.tenant_id, t.access_until,
    jsonb_build_object('tenant_id', t.tenant_id, 'slug', p.slug, 'reason', t.subscription ->> 'reason',
        'status', t.subscription ->> 'status', 'plan', t.subscription ->> 'plan',
        'access_until', catalog.json_time(coalesce(t.access_until, t.access_ended)),
        'what', case when t.archive_held then 'archive' else 'suspend' end) as item
from billing.tenant t
join provisioner.tenant p using (tenant_id)
where t.held
   or t.archive_held;
grant select on gateway.held_suspension to tenantry_gateway;

-- A look, as often as a process sends mails. What passed while no process looked does not count, and neither does what a new
-- process finds to have passed (p_first): nobody knows who looked. What a sandbox's clock was moved by meanwhile does.
create function billing.watch(p_first boolean) returns void
language plpgsql
as $$
declare
    v watched;
    v_now timestamptz := clock_timestamp();
    v_until timestamptz := catalog.business_now();
begin
    select * into v from watched for update skip locked;
    if not found or (not p_first and v_now - v.at < interval '20 seconds' and v_until - v.until < interval '1 minute'
                     and v_until >= v.until) then
        return;
    end if;
    update watched
    set at = v_now, until = v_until,
        total = total + case when p_first or v_now - v.at > interval '2 minutes' or v_until < v.until then interval '0'
                             else v_until - v.until end;
end
$$;

-- How long it is until something, so that it is not wrong when it is read: "2 days", "1 day", "5 hours".
create function billing.time_left(p_left interval) returns text
language sql immutable
as $$
    select case
        when s.hours >= 36 then round(s.hours / 24) || ' days'
        when s.hours >= 20 then '1 day'
        when s.hours >= 1.5 then round(s.hours) || ' hours'
        when s.hours >= 0.75 then '1 hour'
        else 'less than an hour'
    end
    from (select extract(epoch from p_left) / 3600 as hours) s
$$;

-- "99.00 USD". Stripe's amounts are in the smallest unit; most currencies have a hundred of it.
create function billing.amount_text(p_amount bigint, p_currency text) returns text
language sql immutable
as $$
    select case
        when p_currency in ('bif', 'clp', 'djf', 'gnf', 'jpy', 'kmf', 'krw', 'mga', 'pyg', 'rwf', 'ugx', 'vnd', 'vuv', 'xaf', 'xof',
                            'xpf') then p_amount::text
        when p_currency in ('bhd', 'jod', 'kwd', 'omr', 'tnd') then to_char(p_amount / 1000.0, 'FM999999999990.000')
        else to_char(p_amount / 100.0, 'FM999999999990.00')
    end || ' ' || upper(p_currency)
$$;

-- What is said in a mail if it goes now; null: it is not true any more, or nobody is there to read it.
create function billing.mail_facts(m billing.mail, p_now timestamptz) returns jsonb
language plpgsql stable
as $$
declare
    t tenant;
    s jsonb;
    v_life provisioner.tenant_life;
    v_invoice object;
    v_until timestamptz;
begin
    select * into t from tenant where tenant_id = m.tenant_id;
    select * into v_life from provisioner.tenant_life where tenant_id = m.tenant_id;
    if v_life.lifecycle is distinct from 'live' or v_life.email is null
        or not exists (
            select from mails_due(t, p_now) d
            where d.kind = m.kind and d.step = m.step and d.cause = m.cause and d.due_at <= p_now and p_now < d.until) then
        return null;
    end if;
    s := subscription_of(t, p_now);
    select * into v_invoice from object where kind = 'invoice' and object_id = m.cause and m.kind like 'payment%';
    v_until := case m.kind
        when 'trial_ending' then (s ->> 'trial_end')::timestamptz
        when 'suspended' then (s ->> 'archive_at')::timestamptz
        when 'archive_notice' then greatest((s ->> 'archive_at')::timestamptz, p_now + notice_watched()) -- it is late
        else (s ->> 'access_until')::timestamptz
    end;
    return jsonb_strip_nulls(jsonb_build_object(
        'to', v_life.email, 'tenant_id', m.tenant_id, 'name', v_life.admin_name, 'company', v_life.company,
        'plan', (select p.name from plan p where p.plan_id = s ->> 'plan'),
        'date', to_char(v_until at time zone 'UTC', 'FMDD FMMonth YYYY'),
        'left', time_left(v_until - p_now),
        'amount', amount_text((v_invoice.facts ->> 'amount_remaining')::bigint, v_invoice.facts ->> 'currency'),
        'invoice', case when m.kind = 'payment_action_required' then v_invoice.object_id end,
        'trial_ended', case when s ->> 'reason' = 'trial_ended' then 'yes' end,
        'not_paid', case when s ->> 'reason' = 'payment_failed' then 'yes' end,
        'cancelled', case when s ->> 'status' = 'cancelled' and not s ? 'reason' then 'yes' end));
end
$$;

-- Up to p_limit mails to be sent now, for p_lease_ms; those in hand (p_mine) are kept for as long again. Those that are not true
-- any more are never sent. p_first: the process has just begun.
create function billing.take_mails(p_mine text[], p_limit int, p_lease_ms bigint, p_per_second float8, p_first boolean)
returns table (message_id text, kind text, attempts int, facts jsonb)
language plpgsql
as $$
#variable_conflict use_column
declare
    v mail;
    v_facts jsonb;
    v_wait bigint;
    v_left int := p_limit;
begin
    perform watch(p_first);
    update mail
    set taken_until = clock_timestamp() + p_lease_ms * interval '1 ms'
    where message_id = any (p_mine)
      and state = 'waiting';
    for v in
        select *
        from mail
        where state = 'waiting'
          and next_at <= clock_timestamp()
          and (taken_until is null or taken_until < clock_timestamp())
          and message_id <> all (p_mine)
          and p_limit > 0
        order by next_at
        limit p_limit + 1000 -- most may be void
        for update skip locked
    loop
        exit when v_left = 0;
        v_facts := mail_facts(v, catalog.business_now());
        if v_facts is null then
            update mail set state = 'void', taken_at = null, taken_until = null where message_id = v.message_id;
            continue;
        end if;
        if v_facts ? 'invoice' and not v.has_turn then
            select t.wait_ms into v_wait from catalog.take_token('stripe:calls', p_per_second / 2, p_per_second / 2) t;
            if v_wait > 50 then
                update mail
                set has_turn = true, next_at = clock_timestamp() + v_wait * interval '1 ms'
                where message_id = v.message_id;
                continue;
            end if;
        end if;
        update mail
        set has_turn = false, attempts = attempts + 1, taken_at = clock_timestamp(),
            taken_until = clock_timestamp() + p_lease_ms * interval '1 ms'
        where message_id = v.message_id;
        v_left := v_left - 1;
        return query select v.message_id, v.kind, v.attempts + 1, v_facts;
    end loop;
end
$$;

-- A mail server has taken it.
create function billing.mail_sent(p_message_id text) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (select tenant_id from mail where message_id = p_message_id);
begin
    perform lock_tenant(v_tenant);
    update mail
    set state = 'sent', sent_at = catalog.business_now(), watched = (select total from watched), taken_at = null,
        taken_until = null, error = null
    where message_id = p_message_id
      and state <> 'sent';
    perform catalog.resolve_alert('billing-mail-server');
    perform catalog.resolve_alert('billing-mail:' || v_tenant);
    perform settle_mails(v_tenant); -- the archive waits for its notice
end
$$;

-- p_whose: 'server': it takes none of ours; 'address': not this one's; else it may be a moment's trouble.
create function billing.mail_failed(p_message_id text, p_error text, p_delay_ms bigint, p_whose text) returns void
language plpgsql
as $$
declare
    v mail;
begin
    update mail
    set taken_at = null, taken_until = null, next_at = clock_timestamp() + p_delay_ms * interval '1 ms', error = p_error
    where message_id = p_message_id
      and state = 'waiting'
    returning * into v;
    if not found then
        return;
    end if;
    if p_whose = 'address' then
        perform catalog.raise_alert('billing-mail:' || v.tenant_id, v.tenant_id, 'a mail about billing could not be sent',
            format('%s: %s. It is tried again twice a day; nobody is archived without a notice', v.kind, p_error));
    elsif p_whose = 'server' or v.attempts >= 10 then
        perform catalog.raise_alert('billing-mail-server', null, 'mails about billing are not sent', p_error);
    end if;
end
$$;

-- The bank asks for its customer: see note_failure.
create function billing.note_action(p_event jsonb, p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    update object
    set action_since = least(action_since, (p_event ->> 'created')::bigint)
    where kind = 'invoice'
      and object_id = p_event #>> '{object,id}'
      and action_since is distinct from least(action_since, (p_event ->> 'created')::bigint);
    if found and p_tenant_id is not null then
        perform settle_mails(p_tenant_id);
    end if;
end
$$;

-- Stripe tries a failed payment again after days. A card that its customer has chosen since is tried at once.
create function billing.want_payment(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v_live object := live_subscription(p_tenant_id);
    v_invoice object := failing_invoice(p_tenant_id, v_live.object_id);
    v_first boolean := not exists (select from payment where invoice_id = v_invoice.object_id);
begin
    if v_invoice.object_id is null or v_invoice.facts ->> 'status' <> 'open'
        or (select lifecycle from tenant where tenant_id = p_tenant_id) <> 'live' then
        return;
    end if;
    insert into payment (invoice_id, payment_method, tenant_id, state)
    select v_invoice.object_id, c.card, p_tenant_id,
        case when v_first and coalesce((m.body ->> 'created')::bigint, 0) <= coalesce(v_invoice.first_failure, v_invoice.seen)
             then 'known' else 'wanted' end
    from (
        select coalesce(v_live.body #>> '{default_payment_method,id}', v_live.body ->> 'default_payment_method') as card
        union
        select o.facts ->> 'default_payment_method'
        from object o
        where o.kind = 'customer'
          and o.object_id = v_invoice.customer_id
    ) c
    left join object m on m.kind = 'payment_method' and m.object_id = c.card
    where c.card is not null
    on conflict do nothing;
end
$$;

-- Whatever is told of its customer, subscription or invoice, by an event or by an answer.
create function billing.follow_object() returns trigger
language plpgsql
set search_path = billing, durable, pg_temp
as $$
begin
    perform want_payment(new.tenant_id);
    return null;
end
$$;
create trigger follow_object after insert or update on billing.object for each row
    when (new.tenant_id is not null and new.kind in ('customer', 'subscription', 'invoice'))
    execute function billing.follow_object();

-- Up to p_limit payments to be tried now, for p_lease_ms.
create function billing.take_payments(p_limit int, p_lease_ms bigint, p_per_second float8)
returns table (invoice_id text, payment_method text, attempts int)
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
            where o.kind = 'invoice'
              and o.object_id = v.invoice_id
              and o.facts ->> 'status' = 'open'
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
        return query select v.invoice_id, v.payment_method, v.attempts + 1;
    end loop;
end
$$;

-- What Stripe said; its events say what follows. p_delay_ms: it is to be tried again; null: that was its answer.
create function billing.payment_tried(p_invoice_id text, p_payment_method text, p_outcome text, p_delay_ms bigint) returns void
language sql
as $$
    update billing.payment
    set state = case when p_delay_ms is null then 'done' else state end, outcome = p_outcome, taken_until = null,
        next_at = case when p_delay_ms is null then next_at else clock_timestamp() + p_delay_ms * interval '1 ms' end
    where invoice_id = p_invoice_id
      and payment_method = p_payment_method
$$;

-- What an event says of money beside what the subscription becomes. Access stays as the subscription says: a person decides.
create function billing.note_money(p_event jsonb, p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v_id text := p_event #>> '{object,id}';
    v_facts jsonb := p_event #> '{object,facts}';
    v_tenant uuid := p_tenant_id;
begin
    case p_event ->> 'type'
        when 'invoice.payment_action_required' then
            perform note_action(p_event, p_tenant_id);
        when 'charge.refunded' then
            perform catalog.raise_alert('billing-refund:' || v_id, v_tenant, 'a payment was given back',
                format('%s of %s of the charge %s; access stays as the subscription says: cancel that at Stripe if it is to end',
                    amount_text((v_facts ->> 'amount_refunded')::bigint, v_facts ->> 'currency'),
                    amount_text((v_facts ->> 'amount')::bigint, v_facts ->> 'currency'), v_id));
        when 'charge.dispute.created' then
            v_tenant := coalesce(v_tenant,
                (select tenant_id from object where kind = 'charge' and object_id = v_facts ->> 'charge'));
            perform catalog.raise_alert('billing-dispute:' || v_id, v_tenant, 'a payment is disputed',
                format('%s of the charge %s (%s): answer it at Stripe in time; access stays as the subscription says',
                    amount_text((v_facts ->> 'amount')::bigint, v_facts ->> 'currency'), v_facts ->> 'charge',
                    coalesce(v_facts ->> 'reason', 'no reason given')));
        else
            null;
    end case;
end
$$;

-- As before, and the movable clock waits for mails that have just become due, unless the mail server keeps them waiting.
create or replace function catalog.clock_waits_for() returns text
language plpgsql stable
set search_path = catalog, pg_temp
as $$
declare
    v_found text;
    v_schema name;
begin
    select format('the timer %s %s of %s%s', name, key, service, coalesce(', which fails: ' || error, ''))
    into v_found
    from timer
    where due_at <= business_now()
    order by due_at
    limit 1;
    for v_schema in
        select n.nspname
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where c.relname = 'saga'
          and c.relkind = 'r'
          and exists (select from pg_roles r where r.rolname = 'tenantry_' || n.nspname)
    loop
        exit when v_found is not null;
        execute format(
            'select format(%L, kind, step, tenant_id, coalesce(%L || (error ->> %L), %L)) from %I.saga '
            'where status in (''running'', ''undoing'') order by created_at limit 1',
            '%s at %s, tenant %s%s', ', which fails: ', 'detail', '', v_schema)
        into v_found;
    end loop;
    if v_found is null then
        select format('the mail %s to tenant %s', kind, tenant_id)
        into v_found
        from billing.mail
        where state = 'waiting'
          and not exists (
              select from billing.mail
              where state = 'waiting'
                and (error is not null or taken_at < statement_timestamp() - interval '5 seconds'))
        limit 1;
    end if;
    return v_found;
end
$$;

-- Where a mail's link leads: what a tenant has, what it can choose, and what it was asked to pay.
create view gateway.billing_page as
select r.tenant_id, r.slug,
    jsonb_build_object(
        'company', r.company, 'status', t.subscription -> 'status', 'reason', t.subscription -> 'reason',
        'plan', (select p.name from billing.plan p where p.plan_id = t.subscription ->> 'plan'),
        'until', (
            select to_char(coalesce(t.subscription ->> 'access_until', t.subscription ->> 'cancel_at',
                                    t.subscription ->> 'period_end')::timestamptz at time zone 'UTC', 'FMDD FMMonth YYYY')),
        'archive', to_char((t.subscription ->> 'archive_at')::timestamptz at time zone 'UTC', 'FMDD FMMonth YYYY'),
        'is_live', t.lifecycle = 'live',
        'has_subscription', t.subscription ? 'subscription_id',
        'is_customer', exists (select from billing.customer c where c.tenant_id = r.tenant_id),
        'plans', (
            select jsonb_agg(jsonb_build_object('id', p.plan_id, 'name', p.name, 'periods', x.periods) order by p.place)
            from billing.plan p,
                lateral (select jsonb_agg(distinct period order by period) as periods from billing.price where plan_id = p.plan_id) x
            where p.is_offered
              and x.periods is not null),
        'invoices', (
            select coalesce(jsonb_agg(i.item order by i.created desc), '[]')
            from (
                select (o.facts ->> 'created')::bigint as created,
                    jsonb_build_object(
                        'number', coalesce(o.facts ->> 'number', o.object_id), 'status', o.facts -> 'status',
                        'date', to_char(to_timestamp((o.facts ->> 'created')::bigint) at time zone 'UTC', 'FMDD FMMonth YYYY'),
                        'amount', billing.amount_text((o.facts ->> 'amount_due')::bigint, o.facts ->> 'currency')) as item
                from billing.object o
                where o.tenant_id = r.tenant_id
                  and o.kind = 'invoice'
                  and o.facts ->> 'status' <> 'draft'
                order by 1 desc
                limit 12) i)) as item
from gateway.tenant_row r
join billing.tenant t using (tenant_id)
where t.lifecycle <> 'gone';

-- The checkouts that Stripe has told to be finished, once their tenants may be used.
create view gateway.billing_back as
select o.object_id as session_id, r.slug
from billing.object o
join gateway.tenant_row r using (tenant_id)
join billing.tenant t using (tenant_id)
where o.kind = 'checkout.session'
  and o.facts ->> 'status' = 'complete'
  and t.access = 'full'
  and t.subscription ? 'subscription_id';
grant select on gateway.billing_page, gateway.billing_back to tenantry_gateway;

-- Somebody with an old link wants a new one, which goes to the tenant's own address, at most every ten minutes. Returns whether
-- there is one on its way.
create function catalog.ask_billing_link(p_tenant_id uuid) returns boolean
language plpgsql security definer
set search_path = billing, durable, catalog, pg_temp
as $$
begin
    update tenant
    set link_asked_at = business_now()
    where tenant_id = p_tenant_id
      and lifecycle = 'live'
      and (link_asked_at is null or link_asked_at < business_now() - interval '10 minutes');
    return exists (select from tenant where tenant_id = p_tenant_id and lifecycle = 'live');
end
$$;
revoke execute on function catalog.ask_billing_link from public;
grant execute on function catalog.ask_billing_link to tenantry_gateway;

insert into catalog.timer (service, name, key, due_at)
select 'billing', 'mails', tenant_id::text, catalog.business_now() from billing.tenant;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
