-- How long things are remembered, and forgotten in pieces that end in time: what is left goes with the next round. Kafka keeps events for a week, so an inbox of a month recognizes every duplicate.
-- migrate:up
set local check_function_bodies = off;

create function provisioner.prune() returns void
language sql
as $$
    delete from inbox
    where ctid = any (array(select ctid from inbox where taken_at < clock_timestamp() - interval '30 days' limit 20000));
    delete from dead_letter where published and at < clock_timestamp() - interval '30 days';
    -- Nobody signed up for it in a month: whoever asked is told.
    update catalog.operation o
    set state = 'rejected', code = 'tenant_unknown', detail = 'no tenant of this id signed up', finished_at = clock_timestamp()
    from parked p
    where p.at < clock_timestamp() - interval '30 days'
      and p.reason = 'tenant_unknown'
      and o.operation_id = catalog.read_uuid(p.event ->> 'id')
      and o.state = 'accepted';
    delete from parked where at < clock_timestamp() - interval '30 days';
    delete from saga
    where finished_at < clock_timestamp() - interval '400 days'
      and status <> 'attention'; -- a retry goes on with it
    select catalog.prune();
$$;

create function catalog.prune() returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    delete from tenant_event
    where ctid = any (array(select ctid from tenant_event
                            where published and at < clock_timestamp() - interval '400 days' limit 20000));
    delete from operation where finished_at < clock_timestamp() - interval '90 days';
    update alert
    set resolved_at = clock_timestamp()
    where resolved_at is null
      and cause like 'dead-letters:%'
      and last_at < clock_timestamp() - interval '1 day';
    delete from alert where resolved_at < clock_timestamp() - interval '90 days';
$$;
revoke execute on function catalog.prune from public;
grant execute on function catalog.prune to tenantry_provisioner;

-- migrate:down
drop function provisioner.prune, catalog.prune;
