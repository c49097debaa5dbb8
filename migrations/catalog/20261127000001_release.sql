-- Programs and catalogs of different releases side by side, and fences that only rise.
-- migrate:up

-- Which catalog this is: the newest file applied. Programs ask on each connection, and work with no older one than they
-- were built with; whether with a newer one, the catalog says.
create function catalog.version() returns text
language sql stable security definer
set search_path = public, pg_temp
as $$
    select max(version collate "C") from schema_migrations
$$;

-- Programs built with an older catalog than this do not work here any more. A migration that takes away or changes what a
-- program of the release before uses must replace this function; one that only adds leaves it alone.
create function catalog.oldest_program() returns text
language sql immutable
as $$
    select '20261101000009'
$$;

-- Strictly rising, whatever the clock does, and never below the microseconds since 1970: a restored catalog must not give
-- out again what databases of tenants remember of the time that was lost. A sequence alone would fall behind, and two who
-- move it at once would draw the same number; so the few microseconds between looking and moving are one session's. The
-- lock must not outlive them, also where the statement is cancelled in between.
create or replace function catalog.next_fence() returns bigint
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    c_lock constant bigint := hashtextextended('tenantry fence', 0);
    v_now bigint;
    v_fence bigint;
begin
    perform pg_advisory_lock(c_lock);
    v_fence := nextval('catalog.fence');
    v_now := extract(epoch from clock_timestamp()) * 1000000;
    if v_fence < v_now then
        v_fence := setval('catalog.fence', v_now);
    end if;
    perform pg_advisory_unlock(c_lock);
    return v_fence;
exception
    when query_canceled or others then
        perform pg_advisory_unlock(c_lock);
        raise;
end
$$;

grant execute on function catalog.version, catalog.oldest_program
    to tenantry_gateway, tenantry_provisioner, tenantry_migrator, tenantry_billing;
revoke execute on function catalog.version, catalog.oldest_program from public;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
