-- The frame every service stands on: schemas, business time, the one way to change a tenant's status, operations.
-- migrate:up
create schema catalog;
create schema durable;
create schema gateway;
create schema provisioner;
create schema migrator;
create schema billing;

revoke create on schema public from public;
grant usage on schema catalog, durable to tenantry_gateway, tenantry_provisioner, tenantry_migrator, tenantry_billing;
grant usage on schema gateway to tenantry_gateway;
grant usage on schema provisioner to tenantry_provisioner;
grant usage on schema migrator to tenantry_migrator;
grant usage on schema billing to tenantry_billing;

-- Business time is real time plus an offset that only a sandbox may move.
create table catalog.business_clock (
    only_row boolean primary key default true check (only_row),
    ahead interval not null default interval '0'
);
insert into catalog.business_clock default values;
grant select on catalog.business_clock to public;

create function catalog.business_now() returns timestamptz
language sql stable parallel safe
as $$
    select clock_timestamp() + ahead
    from catalog.business_clock
$$;

-- Times in JSON as RFC 3339 in UTC.
create function catalog.json_time(p_at timestamptz) returns text
language sql immutable parallel safe
as $$
    select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- The id another system gave its event, where it is a uuid.
create function catalog.read_uuid(p_text text) returns uuid
language sql immutable parallel safe
as $$
    select case when p_text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_text::uuid end
$$;

-- A time another system wrote; null where it is none.
create function catalog.read_time(p_text text) returns timestamptz
language plpgsql stable
as $$
begin
    return p_text::timestamptz;
exception
    when data_exception then
        return null;
end
$$;

-- What watchers see of a tenant is numbered: versions rise with each change, and published_version follows. They are
-- milliseconds of the clock (or one more than the last), so that they also rise after the catalog was restored to an
-- earlier state: watchers ignore what is lower than what they have seen.
create table catalog.tenant_status (
    tenant_id uuid primary key,
    version bigint not null default 0,
    published_version bigint not null default 0,
    caused_by text,
    traceparent text,
    changed_at timestamptz not null default clock_timestamp()
);
create index tenant_status_unpublished on catalog.tenant_status (changed_at) where published_version < version;

-- The history, and the outbox of tenant.events.v1: rows wait here until Kafka has them.
create table catalog.tenant_event (
    seq bigint generated always as identity primary key,
    event_id uuid not null default gen_random_uuid(),
    tenant_id uuid,
    message_key text,
    type text not null,
    data jsonb not null,
    caused_by text,
    traceparent text,
    at timestamptz not null default clock_timestamp(),
    published boolean not null default false
);
create index tenant_event_unpublished on catalog.tenant_event (seq) where not published;
create index tenant_event_of_tenant on catalog.tenant_event (tenant_id, seq);
create index tenant_event_age on catalog.tenant_event using brin (at);

-- Every change of anything a tenant's watchers may see goes through here: one version, one event.
create function catalog.record_change(
    p_tenant_id uuid,
    p_type text,
    p_data jsonb,
    p_caused_by text,
    p_traceparent text
) returns bigint
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v_version bigint;
begin
    insert into tenant_status as s (tenant_id, version, caused_by, traceparent)
    values (p_tenant_id, (extract(epoch from clock_timestamp()) * 1000)::bigint, p_caused_by, p_traceparent)
    on conflict (tenant_id) do update
        set version = greatest(s.version + 1, excluded.version),
            caused_by = coalesce(excluded.caused_by, s.caused_by),
            traceparent = coalesce(excluded.traceparent, s.traceparent),
            changed_at = clock_timestamp()
    returning version into v_version;

    insert into tenant_event (tenant_id, message_key, type, data, caused_by, traceparent)
    values (p_tenant_id, p_tenant_id::text, p_type,
            p_data || jsonb_build_object('tenant_id', p_tenant_id, 'version', v_version, 'caused_by', p_caused_by),
            p_caused_by, p_traceparent);
    return v_version;
end
$$;

-- The answer to an event that was refused: tells its producer why, without touching any tenant.
create function catalog.record_rejection(
    p_event jsonb,
    p_code text,
    p_field text,
    p_detail text,
    p_more jsonb default '{}'
) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    insert into tenant_event (message_key, type, data, caused_by, traceparent)
    values (p_event ->> 'key', 'tenant.request.rejected.v1',
            jsonb_build_object('event_id', p_event ->> 'id', 'source', p_event ->> 'source',
                               'type', p_event ->> 'type', 'code', p_code, 'field', p_field, 'detail', p_detail) || p_more,
            p_event ->> 'id', p_event ->> 'traceparent')
$$;

-- One row per request that somebody may ask about. Rows are written by the service that carries the request out.
create table catalog.operation (
    operation_id uuid primary key,
    source text not null, -- of the event whose id it bears
    tenant_id uuid,
    kind text not null,
    state text not null default 'accepted'
        check (state in ('accepted', 'succeeded', 'failed', 'superseded', 'rejected')),
    target bigint,
    body_hash text,
    code text,
    field text,
    detail text,
    result jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
create index operation_open on catalog.operation (tenant_id) where state = 'accepted';
create index operation_age on catalog.operation (finished_at) where finished_at is not null;

grant select, insert, update on catalog.operation to tenantry_provisioner, tenantry_migrator, tenantry_billing;
grant select on catalog.tenant_status, catalog.tenant_event to public;
grant execute on function catalog.record_change, catalog.record_rejection
    to tenantry_provisioner, tenantry_migrator, tenantry_billing;
revoke execute on function catalog.record_change, catalog.record_rejection from public;

-- What is wanted of a tenant's access, by whom. The stricter wins.
create table catalog.access_wanted (
    tenant_id uuid not null,
    source text not null check (source in ('operator', 'billing')),
    wanted text not null check (wanted in ('full', 'none')),
    reason text,
    version bigint not null default 1,
    changed_at timestamptz not null default clock_timestamp(),
    primary key (tenant_id, source)
);
grant select on catalog.access_wanted to public;
grant insert, update on catalog.access_wanted to tenantry_provisioner, tenantry_billing;
-- Each writer has its own rows: billing cannot lift what an operator closed.
alter table catalog.access_wanted enable row level security;
create policy everybody_reads on catalog.access_wanted for select using (true);
create policy operators_by_provisioner on catalog.access_wanted to tenantry_provisioner
    using (source = 'operator') with check (source = 'operator');
create policy billing_by_billing on catalog.access_wanted to tenantry_billing
    using (source = 'billing') with check (source = 'billing');

create function catalog.wanted_access(p_tenant_id uuid) returns text
language sql stable
as $$
    select case when exists (
        select from catalog.access_wanted
        where tenant_id = p_tenant_id
          and wanted = 'none'
    ) then 'none' else 'full' end
$$;

-- migrate:down
drop schema billing, migrator, provisioner, gateway, durable, catalog cascade;
grant create on schema public to public;
