-- What others may read: the tenant as its watchers see it, and the gateway's views. Views run with their owner's rights.
-- migrate:up
-- The snapshot is a pure function of facts. Null for a tenant that is gone (its tombstone).
create view catalog.tenant_snapshot as
select
    s.tenant_id,
    s.version,
    s.published_version,
    s.caused_by,
    s.traceparent,
    t.state,
    t.slug,
    t.plan,
    t.created_at,
    case when t.state <> 'deprovisioned' then jsonb_build_object(
        'tenant_id', s.tenant_id,
        'version', s.version,
        'slug', t.slug,
        'company', t.company,
        'plan', t.plan,
        'driver', t.driver,
        'region', coalesce(d.region, t.region),
        'state', t.state,
        'reason', case when t.reason_code is not null
            then jsonb_build_object('code', t.reason_code, 'detail', t.reason_detail) end,
        'since', catalog.json_time(t.state_since),
        'caused_by', s.caused_by,
        'activity', case when g.saga_id is not null then jsonb_build_object(
            'kind', g.kind, 'step', g.step, 'status', g.status, 'progress', g.progress, 'attempt', g.attempt,
            'error', g.error) end,
        'next', case
            when g.saga_id is not null and g.next_at > clock_timestamp() + interval '1 second'
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
        'subscription', null,
        'modules', '[]'::jsonb,
        'limits', '{}'::jsonb,
        'schema', jsonb_build_object('version', t.schema_version),
        'backup', jsonb_build_object('at', catalog.json_time(t.backup_at)),
        'created_at', catalog.json_time(t.created_at)
    ) end as snapshot
from catalog.tenant_status s
join provisioner.tenant t using (tenant_id)
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

-- The publisher's hands: whoever holds its lease marks what Kafka has.
create function catalog.events_to_publish(p_limit int)
returns table (seq bigint, event_id uuid, message_key text, type text, data text, caused_by text, traceparent text, at text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    select seq, event_id, message_key, type, data::text, caused_by, traceparent, catalog.json_time(at)
    from tenant_event
    where not published
    order by seq
    limit p_limit
$$;

create function catalog.snapshots_to_publish(p_limit int)
returns table (tenant_id uuid, version bigint, snapshot text, traceparent text, at text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    select v.tenant_id, v.version, v.snapshot::text, v.traceparent, catalog.json_time(clock_timestamp())
    from catalog.tenant_snapshot v
    where v.tenant_id in (
        select s.tenant_id from catalog.tenant_status s
        where s.published_version < s.version
        order by s.changed_at
        limit p_limit)
$$;

create function catalog.events_published(p_seqs bigint[]) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update tenant_event
    set published = true
    where seq = any (p_seqs)
$$;

create function catalog.snapshots_published(p_tenants uuid[], p_versions bigint[]) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update tenant_status s
    set published_version = greatest(s.published_version, p.version)
    from unnest(p_tenants, p_versions) p (tenant_id, version)
    where s.tenant_id = p.tenant_id
$$;

-- What Kafka will never take: somebody must know, for nobody will see it on the topic.
create function catalog.message_lost(p_detail text) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    select raise_alert('lost-message', null, 'a message could not be published', p_detail)
$$;

-- A publisher that lost its lease with messages on the way has its successor send these tenants again.
create function catalog.snapshots_doubtful(p_tenants uuid[]) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update tenant_status
    set published_version = least(published_version, version - 1)
    where tenant_id = any (p_tenants)
$$;

-- On takeover: what the predecessor sent last may have been overtaken; send it again.
create function catalog.snapshots_since(p_ms bigint) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update tenant_status
    set published_version = least(published_version, version - 1)
    where changed_at > clock_timestamp() - p_ms * interval '1 ms'
$$;

-- encode() breaks lines, which decoders need not take.
create function catalog.base64(p_bytes bytea) returns text
language sql immutable parallel safe
as $$
    select translate(encode(p_bytes, 'base64'), chr(10), '')
$$;

create function catalog.dead_letters_to_publish(p_limit int)
returns table (service text, id bigint, topic text, message_key text, value text, headers text, code text, field text, detail text)
language sql security definer
set search_path = catalog, pg_temp
as $$
    select 'provisioner', id, topic, base64(message_key), base64(value), headers::text, code, field, detail
    from provisioner.dead_letter
    where not published
    order by id
    limit p_limit
$$;

create function catalog.dead_letters_published(p_ids bigint[]) returns void
language sql security definer
set search_path = catalog, pg_temp
as $$
    update provisioner.dead_letter
    set published = true
    where id = any (p_ids)
$$;

revoke execute on function catalog.events_to_publish, catalog.snapshots_to_publish, catalog.events_published, catalog.message_lost,
    catalog.snapshots_published, catalog.snapshots_doubtful, catalog.snapshots_since, catalog.dead_letters_to_publish,
    catalog.dead_letters_published from public;
grant execute on function catalog.events_to_publish, catalog.snapshots_to_publish, catalog.events_published, catalog.message_lost,
    catalog.snapshots_published, catalog.snapshots_doubtful, catalog.snapshots_since, catalog.dead_letters_to_publish,
    catalog.dead_letters_published
    to tenantry_gateway, tenantry_provisioner, tenantry_migrator, tenantry_billing;
grant select on catalog.tenant_snapshot to tenantry_gateway, tenantry_provisioner, tenantry_migrator, tenantry_billing;

create view gateway.operation as
select operation_id, tenant_id, kind, state, code, field, detail, result, body_hash,
    catalog.json_time(created_at) as created_at, catalog.json_time(finished_at) as finished_at
from catalog.operation;

create view gateway.tenant as
select tenant_id, state, slug, plan, created_at, snapshot
from catalog.tenant_snapshot;

create view gateway.history as
select tenant_id, seq, event_id, type, data, caused_by, catalog.json_time(at) as at
from catalog.tenant_event;

create view gateway.connection as
select t.tenant_id, t.state, t.access_applied, d.host, d.port, d.dbname, d.app_login, d.generation, d.driver,
    d.project_ref, t.rotation_applied, s.sealed
from provisioner.tenant t
join provisioner.database d
    on d.tenant_id = t.tenant_id
    and d.generation = t.generation
left join provisioner.secret s
    on s.tenant_id = t.tenant_id
    and s.ring = 'app'
    and s.field = 'app_password'
    and s.generation = t.rotation_applied;

create view gateway.invite as
select t.tenant_id, t.state, t.slug, t.driver, t.admin_id, t.invite_sent, t.link_made, s.sealed as link
from provisioner.tenant t
left join provisioner.secret s
    on s.tenant_id = t.tenant_id
    and s.ring = 'app'
    and s.field = 'invite_link'
    and s.generation = t.link_made;

create view gateway.inventory as
select driver, server, name, tenant_id, generation, verdict, detail, monthly_cost_cents,
    catalog.json_time(seen_at) as seen_at
from provisioner.inventory;

create view gateway.alert as
select alert_id, cause, tenant_id, title, detail, times, catalog.json_time(first_at) as first_at,
    catalog.json_time(last_at) as last_at, catalog.json_time(resolved_at) as resolved_at
from catalog.alert;

create view gateway.dead_letter as
select 'provisioner' as service, id, topic, partition, at_offset, catalog.base64(message_key) as message_key, headers,
    catalog.base64(value) as value, code, field, detail, catalog.json_time(at) as at
from provisioner.dead_letter;

create view gateway.backup as
select tenant_id, kind, location, bytes, sha256, objects, catalog.json_time(created_at) as created_at
from provisioner.backup;

create view gateway.load as
select count(*) filter (where state in ('requested', 'provisioning')) as signups_in_progress
from provisioner.tenant;

grant select on all tables in schema gateway to tenantry_gateway;

-- migrate:down
drop view gateway.operation, gateway.tenant, gateway.history, gateway.connection, gateway.invite, gateway.inventory,
    gateway.alert, gateway.dead_letter, gateway.backup,
    gateway.load;
drop view catalog.tenant_snapshot cascade;
drop function catalog.events_to_publish, catalog.snapshots_to_publish, catalog.events_published, catalog.message_lost,
    catalog.snapshots_published, catalog.snapshots_doubtful, catalog.snapshots_since, catalog.dead_letters_to_publish,
    catalog.dead_letters_published, catalog.base64;
