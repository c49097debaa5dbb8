-- How long things are remembered. Kafka keeps events for a week, so an inbox of a month recognizes every duplicate.
-- migrate:up
set local check_function_bodies = off;

create function provisioner.prune() returns void
language sql
as $$
    delete from inbox where taken_at < clock_timestamp() - interval '30 days';
    delete from dead_letter where published and at < clock_timestamp() - interval '30 days';
    delete from parked where at < clock_timestamp() - interval '30 days';
    delete from saga where finished_at < clock_timestamp() - interval '400 days';
    select catalog.prune();
$$;

create function catalog.prune() returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    delete from tenant_event where published and at < clock_timestamp() - interval '400 days';
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
