-- What others read, at any size of the fleet: a snapshot that merges one part per service, pages that build only what they
-- show, lists without the bytes.
-- migrate:up
set local check_function_bodies = off;

-- The provisioner's part of a tenant's snapshot; a service brings a view tenant_part(tenant_id, part) of its own. Nothing
-- volatile in it (not clock_timestamp), or a page would make the snapshots of the whole fleet first.
create view provisioner.tenant_part as
select
    t.tenant_id,
    jsonb_build_object(
        'slug', t.slug,
        'company', t.company,
        'plan', t.plan,
        'driver', t.driver,
        'region', coalesce(d.region, t.region),
        'state', t.state,
        'reason', case when t.reason_code is not null
            then jsonb_build_object('code', t.reason_code, 'detail', t.reason_detail) end,
        'since', catalog.json_time(t.state_since),
        'activity', case when g.saga_id is not null then jsonb_build_object(
            'kind', g.kind, 'step', g.step, 'status', g.status, 'progress', g.progress, 'attempt', g.attempt,
            'error', g.error) end,
        'next', case
            when g.saga_id is not null and g.next_at > statement_timestamp() + interval '1 second'
                then jsonb_build_object('what', g.step, 'at', catalog.json_time(g.next_at))
            when g.saga_id is not null then jsonb_build_object('what', g.step, 'at', null)
            when t.state = 'attention' then jsonb_build_object('what', 'operator', -- to retry or to deprovision
                                                               'at', null)
        end,
        'access', jsonb_build_object(
            'wanted', catalog.wanted_access(t.tenant_id),
            'applied', t.access_applied,
            'reason', (select a.reason from catalog.access_wanted a
                       where a.tenant_id = t.tenant_id and a.wanted = 'none' order by a.source limit 1)),
        'schema', jsonb_build_object('version', t.schema_version),
        'backup', jsonb_build_object('at', catalog.json_time(t.backup_at)),
        'created_at', catalog.json_time(t.created_at)) as part
from provisioner.tenant t
left join provisioner.database d
    on d.tenant_id = t.tenant_id
    and d.generation = t.generation
left join lateral (
    select * from provisioner.saga x
    where x.tenant_id = t.tenant_id
      and x.status in ('running', 'undoing')
    order by x.created_at
    limit 1
) g on true;

create table catalog.snapshot_part (
    service text primary key,
    added_at timestamptz not null default clock_timestamp()
);

-- A service moves in: its tenant_part is merged over those of the services before it. The snapshot stays a pure function of
-- facts; null for a tenant that is gone (its tombstone).
create function catalog.add_snapshot_part(p_service text) returns void
language plpgsql
as $do$
declare
    v_parts text;
begin
    insert into catalog.snapshot_part (service) values (p_service);
    -- Each part is looked up for the one tenant: joined, the planner would make those of the whole fleet first.
    select string_agg(format(' || coalesce((select part from %I.tenant_part where tenant_id = s.tenant_id), ''{}'')', service),
                      '' order by added_at)
    into v_parts
    from catalog.snapshot_part;
    execute format($$
        create or replace view catalog.tenant_snapshot as
        select s.tenant_id, s.version, s.published_version, s.caused_by, s.traceparent, t.state, t.slug, t.plan,
            t.created_at,
            case when t.state <> 'deprovisioned' then
                jsonb_build_object('tenant_id', s.tenant_id, 'version', s.version, 'caused_by', s.caused_by,
                                   'subscription', null, 'modules', '[]'::jsonb, 'limits', '{}'::jsonb)%s
            end as snapshot
        from catalog.tenant_status s
        join provisioner.tenant t using (tenant_id)
    $$, v_parts);
end
$do$;
revoke execute on function catalog.add_snapshot_part from public;

select catalog.add_snapshot_part('provisioner');

-- For lists: which tenants a page shows is decided here, with an index for each order; only those get a snapshot.
create index tenant_page on provisioner.tenant (created_at, tenant_id);
create index tenant_page_of_state on provisioner.tenant (state, created_at, tenant_id);
create index tenant_page_of_plan on provisioner.tenant (plan, created_at, tenant_id);
create index tenant_of_slug on provisioner.tenant (slug text_pattern_ops);
create index database_of_name on provisioner.database (name);

create view gateway.tenant_row as
select tenant_id, state, slug, plan, company, created_at
from provisioner.tenant;

create or replace view gateway.load as
select count(*) as signups_in_progress
from provisioner.tenant
where state in ('requested', 'provisioning');

create or replace view gateway.operation as
select operation_id, tenant_id, kind, state, code, field, detail, result, body_hash,
    catalog.json_time(created_at) as created_at, catalog.json_time(finished_at) as finished_at, service
from catalog.operation;

create or replace view gateway.dead_letter as
select service, id, topic, partition, at_offset, catalog.base64(message_key) as message_key, headers,
    catalog.base64(value) as value, code, field, detail, catalog.json_time(at) as at
from catalog.dead_letter;

-- Without the bytes, which may be many.
create view gateway.dead_letter_head as
select service, id, topic, partition, at_offset, catalog.base64(message_key) as message_key, code, field, detail,
    catalog.json_time(at) as at
from catalog.dead_letter;

create or replace function catalog.snapshots_to_publish(p_limit int)
returns table (tenant_id uuid, version bigint, snapshot text, traceparent text, at text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    with due as materialized (
        select s.tenant_id
        from tenant_status s
        where s.published_version < s.version
        order by s.changed_at
        limit p_limit
    )
    select v.tenant_id, v.version, v.snapshot::text, v.traceparent, catalog.json_time(clock_timestamp())
    from due
    cross join lateral (select * from catalog.tenant_snapshot t where t.tenant_id = due.tenant_id) v
$$;

create or replace function catalog.dead_letters_to_publish(p_limit int)
returns table (service text, id bigint, topic text, message_key text, value text, headers text, code text, field text, detail text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    -- No more than some 8 MiB at once, and always one.
    with waiting as (
        select d.id, sum(octet_length(d.value)) over (order by d.id) - octet_length(d.value) as before
        from (select id, coalesce(value, '') as value from dead_letter where not published order by id limit p_limit) d
    )
    select d.service, d.id, topic, base64(message_key), base64(value), headers::text, code, field, detail
    from dead_letter d
    join waiting w using (id)
    where w.before < 8 * 1024 * 1024
    order by d.id
$$;

create or replace function catalog.dead_letters_published(p_ids bigint[]) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update dead_letter
    set published = true
    where id = any (p_ids)
$$;

grant select on gateway.tenant_row, gateway.dead_letter_head to tenantry_gateway;

-- Re-sealing: of each key that is not the primary one some secrets, beginning anywhere, for those that do not open must not
-- hold up the others. Nothing to do costs a look into the index.
create index secret_of_key on provisioner.secret (ring, (split_part(sealed, '.', 1)), tenant_id);

create or replace function provisioner.secrets_to_rewrap(p_ring text, p_primary text, p_limit int)
returns table (tenant_id uuid, field text, generation int, sealed text)
language sql
as $$
    with recursive key (id) as (
        select min(split_part(sealed, '.', 1)) from secret where ring = p_ring
        union all
        select (select min(split_part(s.sealed, '.', 1)) from secret s
                where s.ring = p_ring and split_part(s.sealed, '.', 1) > key.id)
        from key
        where key.id is not null
    ), start as materialized (
        select gen_random_uuid() as at
    )
    select s.tenant_id, s.field, s.generation, s.sealed
    from key, start,
        lateral (
            (select * from secret
             where ring = p_ring and split_part(sealed, '.', 1) = key.id and tenant_id >= start.at
             order by tenant_id limit p_limit)
            union
            (select * from secret
             where ring = p_ring and split_part(sealed, '.', 1) = key.id
             order by tenant_id limit p_limit)
        ) s
    where key.id <> p_primary
    limit p_limit
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
