-- Durable timers in business time: a service is called back when an instant has come, however many processes have died since
-- it was set. And the sandbox's movable clock, which goes from one of those instants to the next.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find timer_due by the caller's search_path

create table catalog.timer (
    service text not null,
    name text not null,
    key text not null, -- what it is about: a tenant, a run
    due_at timestamptz not null, -- business time
    attempts int not null default 0,
    not_before timestamptz not null default '-infinity', -- real time, after a failure
    error text,
    primary key (service, name, key)
);
-- In the order in which they fire: many may be due at the same instant, and each round had to sort them all.
create index timer_order on catalog.timer (service, due_at, name, key);
create index timer_failing on catalog.timer (service, name) where attempts > 0;

alter table catalog.timer enable row level security;
create policy everybody_reads on catalog.timer for select using (true);
create policy own_rows on catalog.timer
    using (service = substr(current_user, length('tenantry_') + 1))
    with check (service = substr(current_user, length('tenantry_') + 1));
grant select, insert, update, delete on catalog.timer to tenantry_service;
grant select on catalog.timer to tenantry_gateway;

-- Sets the timer of that name and key, anew if it is set already.
create function durable.set_timer(p_name text, p_key text, p_due_at timestamptz) returns void
language plpgsql
as $$
begin
    perform check_key('timer', p_name || p_key);
    insert into catalog.timer (service, name, key, due_at)
    values (current_schema(), p_name, p_key, p_due_at)
    on conflict (service, name, key) do update
        set due_at = excluded.due_at,
            attempts = 0,
            not_before = '-infinity',
            error = null;
end
$$;

create function durable.drop_timer(p_name text, p_key text) returns void
language plpgsql
as $$
begin
    delete from catalog.timer where service = current_schema() and name = p_name and key = p_key;
end
$$;

-- Resolves the alerts about a service's timers that no longer fail: they succeeded, were set again, or were dropped. This runs
-- twice a second, and must not depend on how many other alerts are open.
create index alert_of_timers on catalog.alert (cause) where resolved_at is null and cause like 'timer:%';
create function catalog.resolve_timer_alerts(p_service text) returns void
language sql security definer
set search_path = catalog, pg_temp
set enable_seqscan = off
as $$
    update alert
    set resolved_at = clock_timestamp()
    where resolved_at is null
      and cause like 'timer:%'
      and split_part(cause, ':', 2) = p_service
      and cause <> all (array(
          select distinct format('timer:%s:%s', service, name)
          from timer
          where service = p_service
            and attempts > 0))
$$;
revoke execute on function catalog.resolve_timer_alerts from public;
grant execute on function catalog.resolve_timer_alerts to tenantry_service;

-- Postpones a timer that failed: longer each time, up to ten minutes, with an alert.
create function durable.put_timer_off(p_name text, p_key text, p_error text) returns void
language plpgsql
as $$
begin
    update catalog.timer
    set attempts = attempts + 1,
        not_before = clock_timestamp() + least(600, power(2, least(attempts, 20))) * interval '1 second',
        error = p_error
    where service = current_schema() and name = p_name and key = p_key
      and due_at <= catalog.business_now(); -- not one that was set anew meanwhile
    if found then
        perform catalog.raise_alert(format('timer:%s:%s', current_schema(), p_name), null, 'a timer''s work fails',
                                    format('%s: %s', p_key, p_error));
    end if;
end
$$;

-- Calls the service's timer_due(name, key, due_at) for up to p_limit timers that are due, earliest first, each in a
-- transaction within this one; it may set or drop this timer and others. One that fails, or waits too long for a lock, is
-- postponed and does not block the others; after a second the rest is left for the next call. Returns how many were due.
create function durable.fire_timers(p_limit int) returns int
language plpgsql
as $$
declare
    v catalog.timer;
    v_now timestamptz := catalog.business_now();
    v_until timestamptz := clock_timestamp() + interval '1 second';
    v_due int := 0;
begin
    perform set_config('lock_timeout', '3s', true);
    for v in
        select *
        from catalog.timer
        where service = current_schema()
          and due_at <= v_now
          and not_before <= statement_timestamp()
        order by due_at, name, key
        limit p_limit
        for update skip locked
    loop
        v_due := v_due + 1;
        begin
            -- The loop reads ahead: an earlier timer may have dropped this one or set it again, and that must stand.
            delete from catalog.timer
            where service = v.service and name = v.name and key = v.key and due_at = v.due_at;
            if found then
                perform timer_due(v.name, v.key, v.due_at);
            end if;
        exception when others then
            perform put_timer_off(v.name, v.key, sqlerrm);
        end;
        exit when clock_timestamp() > v_until;
    end loop;
    perform catalog.resolve_timer_alerts(current_schema()::text);
    return v_due;
end
$$;

-- If a call of fire_timers failed as a whole, because the work of one timer did not end or killed the connection, they are
-- fired by name, one by one, to find out which one it is.
create function durable.next_timer(out name text, out key text) returns setof record
language sql
as $$
    select name, key
    from catalog.timer
    where service = current_schema()
      and due_at <= catalog.business_now()
      and not_before <= statement_timestamp()
    order by due_at, name, key
    limit 1
$$;

create function durable.fire_timer(p_name text, p_key text) returns void
language plpgsql
as $$
declare
    v catalog.timer;
begin
    perform set_config('lock_timeout', '3s', true);
    delete from catalog.timer
    where service = current_schema() and name = p_name and key = p_key and due_at <= catalog.business_now()
    returning * into v;
    if found then
        perform timer_due(v.name, v.key, v.due_at);
    end if;
end
$$;
grant execute on function durable.check_key, durable.set_timer, durable.drop_timer, durable.put_timer_off, durable.fire_timers,
    durable.next_timer, durable.fire_timer to tenantry_service;

-- What keeps the movable clock where it is, in words, or null: what is due by now and not dealt with.
create function catalog.clock_waits_for() returns text
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
    return v_found;
end
$$;

-- Moves business time on, to the next instant at which a timer is due, or to p_until if that is earlier. Returns where it
-- stands. Never backwards.
create function catalog.clock_move(p_until timestamptz) returns timestamptz
language plpgsql
set search_path = catalog, pg_temp
as $$
declare
    v_next timestamptz := least(p_until, (select min(due_at) from timer where due_at > business_now()));
begin
    update business_clock
    set ahead = greatest(ahead, extract(epoch from v_next - clock_timestamp()) * interval '1 second'); -- no days of 23 hours
    return greatest(v_next, business_now());
end
$$;
revoke execute on function catalog.clock_waits_for, catalog.clock_move from public;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
