-- Inspections: what a tenant's database has by its own account (ledger, schema, counters), read by whoever has a connection to
-- spare. Drift checks ask for them, and the probes of rollouts.
-- migrate:up
set local check_function_bodies = off;

-- The different schemas that tenants have: a handful, however many tenants there are. objects: {name: MD5 of its definition}, null
-- where there are too many to tell.
create table migrator.fingerprint (
    fingerprint_id bigint generated always as identity primary key,
    digest text not null unique,
    objects jsonb
);

alter table migrator.tenant
    add column fingerprint_id bigint references migrator.fingerprint on delete set null,
    add column fingerprint_of bigint, -- the ledger that it had then: with another one, the fingerprint says nothing any more
    add column server_major int, -- PostgreSQL's version, which writes definitions in its own way
    add column fingerprinted_at timestamptz;
create index tenant_of_fingerprint on migrator.tenant (fingerprint_id) where fingerprint_id is not null;

-- One check at a time; the last one stays until the next begins.
create table migrator.drift_check (
    check_id uuid primary key,
    only_row boolean not null unique default true check (only_row),
    state text not null default 'running' check (state in ('running', 'ended')),
    with_schema boolean not null,
    whole_fleet boolean not null,
    tenants int not null,
    event jsonb not null, -- id, source, traceparent
    result jsonb, -- of one that has ended
    created_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz
);

-- Who has drifted: [{kind, ...}], see docs/migrations.md.
create table migrator.drift (
    tenant_id uuid primary key,
    check_id uuid not null references migrator.drift_check on delete cascade,
    findings jsonb not null
);

-- A queue. A row that somebody took comes again at next_at unless its result has come first; reading twice does no harm.
create table migrator.inspection (
    inspection_id uuid primary key default gen_random_uuid(),
    tenant_id uuid not null,
    check_id uuid references migrator.drift_check on delete cascade,
    run_id uuid references migrator.run on delete cascade, -- or for the probes of its present wave
    with_schema boolean not null,
    attempts int not null default 0,
    put_off int not null default 0, -- how often something else had the tenant, or it could not be looked into
    next_at timestamptz not null default clock_timestamp(),
    check ((check_id is null) <> (run_id is null))
);
create index inspection_due on migrator.inspection ((check_id is not null), next_at);
create index inspection_of_check on migrator.inspection (check_id) where check_id is not null;
create unique index inspection_of_run on migrator.inspection (run_id, tenant_id) where run_id is not null;

-- Whether there is anybody who takes them: migrators of the release before do not.
create table migrator.inspector (
    only_row boolean primary key default true check (only_row),
    seen_at timestamptz not null default '-infinity'
);
insert into migrator.inspector default values;

grant select, insert, update, delete on migrator.fingerprint, migrator.drift_check, migrator.drift, migrator.inspection,
    migrator.inspector to tenantry_migrator;
grant usage on all sequences in schema migrator to tenantry_migrator;

-- The check that there is, though another one may have come in its place while this was waited for.
create function migrator.lock_drift_check() returns void
language plpgsql
as $$
begin
    loop
        perform from drift_check for update;
        exit when found or not exists (select from drift_check);
    end loop;
end
$$;

-- What is locked before inspections, in this order by all: the check, as a new one does, and the run at work, as whatever else changes
-- its probes does.
create function migrator.lock_owners(p_inspections uuid[]) returns void
language plpgsql
as $$
begin
    perform lock_drift_check();
    perform from run
    where ended_at is null
      and run_id in (select run_id from inspection where inspection_id = any (p_inspections))
    for no key update;
end
$$;

-- Takes up to p_limit, of them up to p_checks for checks; no more of a server's than it has room for, but one that a run waits for.
-- urgent: a wave waits for it. known: the digests of schemas whose objects need not be sent again. changed_at goes back with the
-- result: what was read is not compared with what came since, though others have taken the same one meanwhile.
create function migrator.claim_inspections(p_limit int, p_checks int)
returns table (inspection_id uuid, tenant_id uuid, urgent boolean, with_schema boolean, known jsonb, tenant text, changed_at timestamptz)
language plpgsql
as $$
declare
    c_attempts constant int := 10; -- of which nobody told the end: whoever looks at this one dies of it, or loses its result
    v_known jsonb;
    v inspection;
begin
    update inspector set seen_at = clock_timestamp() where seen_at < statement_timestamp() - interval '20 seconds';
    if not exists (select from inspection i where i.next_at <= statement_timestamp()) then
        return;
    end if;
    perform from inspector for no key update; -- one at a time, so that no two take what is left of a server's room
    if exists (select from inspection i where i.next_at <= statement_timestamp() and i.attempts >= c_attempts) then
        perform lock_owners(array(select i.inspection_id from inspection i
                                  where i.next_at <= statement_timestamp() and i.attempts >= c_attempts));
        for v in
            delete from inspection i where i.next_at <= statement_timestamp() and i.attempts >= c_attempts returning *
        loop
            perform inspection_failed(v, '{"code": "lost", "class": "busy", "detail": "nobody came to the end of it"}');
        end loop;
        perform end_drift_check();
    end if;
    v_known := (select coalesce(jsonb_agg(digest), '[]')
                from (select digest from fingerprint order by fingerprint_id desc limit 1000) f);
    return query
    with known as materialized (
        select r.server, r.spare, greatest(r.spare, 1 - r.probes) as for_run from server_room r
    ), candidates as (
        select i.inspection_id, i.check_id, i.next_at, t.changed_at, f.server,
            coalesce(case when i.check_id is null then k.for_run else k.spare end, p_limit) as room
        from inspection i
        left join tenant t on t.tenant_id = i.tenant_id
        left join provisioner.fleet f on f.tenant_id = i.tenant_id
        left join known k on k.server = f.server
        where i.next_at <= statement_timestamp()
          and (i.check_id is null or p_checks > 0)
          and coalesce(case when i.check_id is null then k.for_run else k.spare end, p_limit) > 0
        order by i.check_id is not null, i.next_at -- a run waits for its probes
        limit p_limit
        for update of i skip locked
    ), due as (
        select c.*, row_number() over (partition by c.server order by c.check_id is not null, c.next_at) as nth,
            row_number() over (partition by c.check_id is not null order by c.next_at) as nth_of_kind
        from candidates c
    )
    update inspection i
    set next_at = clock_timestamp() + case when d.check_id is null then interval '20 seconds' else interval '1 minute' end,
        attempts = i.attempts + 1
    from due d
    where i.inspection_id = d.inspection_id
      and d.nth <= d.room
      and (d.check_id is null or d.nth_of_kind <= p_checks)
    returning i.inspection_id, i.tenant_id, i.check_id is null, i.with_schema, v_known,
        (select login::text from provisioner.owner_login o where o.tenant_id = i.tenant_id), d.changed_at;
end
$$;

-- The kind of what has, or may have, changed the tenant's ledger since it had changed last when it was taken; or null.
create function migrator.inspection_overtaken_by(p_tenant_id uuid, p_changed_at timestamptz) returns text
language sql stable
as $$
    select coalesce(
        (select c.kind
         from catalog.tenant_claim c
         where c.tenant_id = p_tenant_id
           and c.kind in ('provision', 'migrate', 'restore')),
        case when p_changed_at is distinct from (select changed_at from tenant where tenant_id = p_tenant_id)
             then 'migrate' end)
$$;

-- Notes the schema that the tenant has with its present ledger. What no tenant has any more, prune() deletes.
create function migrator.record_fingerprint(p_tenant_id uuid, p_schema jsonb, p_server_major int) returns void
language plpgsql
as $$
declare
    v_fingerprint bigint;
begin
    insert into fingerprint (digest, objects)
    values (p_schema ->> 'digest', nullif(p_schema -> 'objects', 'null'))
    on conflict (digest) do update set objects = coalesce(fingerprint.objects, excluded.objects)
    returning fingerprint_id into v_fingerprint;
    update tenant
    set fingerprint_id = v_fingerprint, fingerprint_of = ledger_id, server_major = p_server_major, fingerprinted_at = clock_timestamp()
    where tenant_id = p_tenant_id;
end
$$;

create function migrator.add_finding(p_check_id uuid, p_tenant_id uuid, p_finding jsonb) returns void
language sql
as $$
    insert into drift as d (tenant_id, check_id, findings)
    values (p_tenant_id, p_check_id, jsonb_build_array(p_finding))
    on conflict (tenant_id) do update set findings = d.findings || excluded.findings
$$;

create function migrator.inspection_failed(p_inspection migrator.inspection, p_error jsonb) returns void
language plpgsql
as $$
begin
    if p_inspection.run_id is not null then
        perform note_probe(p_inspection.run_id, p_inspection.tenant_id, null);
    else
        perform add_finding(p_inspection.check_id, p_inspection.tenant_id,
            jsonb_build_object('kind', 'unreachable', 'error', p_error));
    end if;
end
$$;

-- What a check has found out about one tenant; its schema is compared when all are known. The catalog follows the tenant's own
-- ledger, since that decides what is applied.
create function migrator.note_drift(p_check_id uuid, p_tenant_id uuid, p_found jsonb) returns void
language plpgsql
as $$
declare
    v_has text[] := array(select jsonb_array_elements_text(p_found -> 'versions'));
    v_known text[] := (select l.versions from tenant t join ledger l using (ledger_id) where t.tenant_id = p_tenant_id);
    v_unknown jsonb := to_jsonb(array(select v from unnest(v_has) v where v not in (select version from file) order by v collate "C"));
    v_event jsonb;
begin
    if v_known is null or not (v_has <@ v_known and v_known <@ v_has) then
        if v_known is not null then
            perform add_finding(p_check_id, p_tenant_id, jsonb_build_object('kind', 'ledger',
                'missing', to_jsonb(array(select v from unnest(v_known) v where v <> all (v_has) order by v collate "C")),
                'extra', to_jsonb(array(select v from unnest(v_has) v where v <> all (v_known) order by v collate "C"))));
        end if;
        select event into v_event from drift_check where check_id = p_check_id;
        perform catalog.record_ledger(p_tenant_id, p_found -> 'versions');
        perform catalog.record_change(p_tenant_id, 'tenant.ledger.corrected.v1', jsonb_build_object('versions', p_found -> 'versions'),
            v_event ->> 'id', v_event ->> 'traceparent');
    end if;
    if v_unknown <> '[]' then
        perform add_finding(p_check_id, p_tenant_id, jsonb_build_object('kind', 'unknown_version', 'versions', v_unknown));
    end if;
    if jsonb_array_length(p_found -> 'invalid_indexes') > 0 then
        perform add_finding(p_check_id, p_tenant_id,
            jsonb_build_object('kind', 'invalid_index', 'indexes', p_found -> 'invalid_indexes'));
    end if;
end
$$;

-- What is different in one schema from another: names of objects, fifty of each at most; nulls where one of the two has too many
-- objects for the catalog to keep: all of the other's would seem to differ.
create function migrator.schema_differences(p_from bigint, p_to bigint) returns jsonb
language sql stable
as $$
    with usual as (
        select key, value from fingerprint f, jsonb_each_text(f.objects) where f.fingerprint_id = p_from
    ), has as (
        select key, value from fingerprint f, jsonb_each_text(f.objects) where f.fingerprint_id = p_to
    )
    select case when exists (select from fingerprint where fingerprint_id in (p_from, p_to) and objects is null)
        then '{"missing": null, "extra": null, "changed": null}'
        else jsonb_build_object(
            'missing', to_jsonb(array(select key from usual where key not in (select key from has) order by key limit 50)),
            'extra', to_jsonb(array(select key from has where key not in (select key from usual) order by key limit 50)),
            'changed', to_jsonb(array(select key from usual join has using (key) where usual.value <> has.value order by key limit 50)))
        end
$$;

-- Compares each tenant that was looked at with what most have who have the same files, on the same version of PostgreSQL.
-- What two schemas differ in takes milliseconds, so it is told once for all who have them, and of the hundred most frequent.
create function migrator.compare_schemas(p_check migrator.drift_check) returns void
language plpgsql
as $$
begin
    perform add_finding(p_check.check_id, o.tenant_id,
        jsonb_build_object('kind', 'schema', 'alike', o.alike, 'of', o.all_of_them)
            || coalesce(o.differences, '{"missing": null, "extra": null, "changed": null}'))
    from (
        with known as (
            select t.tenant_id, t.ledger_id, t.server_major, t.fingerprint_id, t.fingerprinted_at
            from tenant t
            join provisioner.fleet f using (tenant_id)
            where t.fingerprint_id is not null
              and t.fingerprint_of = t.ledger_id
        ), counted as (
            select ledger_id, server_major, fingerprint_id, count(*) as n from known group by 1, 2, 3
        ), majority as (
            select distinct on (ledger_id, server_major) ledger_id, server_major, fingerprint_id as usual, n as alike,
                sum(n) over (partition by ledger_id, server_major) as all_of_them
            from counted
            order by ledger_id, server_major, n desc, fingerprint_id
        ), odd as (
            select k.tenant_id, k.fingerprint_id, m.usual, m.alike, m.all_of_them
            from known k
            join majority m using (ledger_id, server_major)
            where k.fingerprint_id <> m.usual
              and k.fingerprinted_at >= p_check.created_at
        ), pairs as materialized (
            select usual, fingerprint_id, schema_differences(usual, fingerprint_id) as differences
            from (select usual, fingerprint_id from odd group by 1, 2 order by count(*) desc, 2 limit 100) p
        )
        select odd.*, p.differences
        from odd
        left join pairs p using (usual, fingerprint_id)
        order by odd.tenant_id
    ) o;
end
$$;

-- Ends the check if all of its tenants have been looked at.
create function migrator.end_drift_check() returns void
language plpgsql
as $$
declare
    v drift_check;
    v_drifted bigint;
    v_kinds jsonb;
begin
    select * into v from drift_check where state = 'running' for update;
    if not found or exists (select from inspection where check_id = v.check_id) then
        return;
    end if;
    if v.with_schema then
        perform compare_schemas(v);
    end if;
    v_drifted := (select count(*) from drift where check_id = v.check_id);
    v_kinds := (select coalesce(jsonb_object_agg(kind, n), '{}')
                from (select x ->> 'kind' as kind, count(*) as n
                      from drift, jsonb_array_elements(findings) x
                      where check_id = v.check_id
                      group by 1) k);
    update drift_check
    set state = 'ended',
        ended_at = clock_timestamp(),
        result = jsonb_build_object('tenants', v.tenants, 'drifted', v_drifted, 'findings', v_kinds)
    where check_id = v.check_id
    returning * into v;
    perform operation_done(v.event, jsonb_build_object('check_id', v.check_id) || v.result);
    if v_kinds - 'busy' <> '{}' then
        perform catalog.raise_alert('schema-drift', null, 'tenants have drifted',
            format('%s of %s tenants are not as they should be: see tenantry drift', v_drifted, v.tenants));
    elsif v.whole_fleet and v_drifted = 0 then
        perform catalog.resolve_alert('schema-drift');
    end if;
end
$$;

-- Whether it has the form that whatever reads it relies on.
create function migrator.inspection_is_readable(p_found jsonb) returns boolean
language sql immutable
as $$
    select coalesce(jsonb_typeof(p_found -> 'versions') = 'array'
        and not p_found -> 'versions' @? '$[*] ? (@.type() != "string")'
        and jsonb_typeof(p_found -> 'invalid_indexes') = 'array'
        and coalesce(jsonb_typeof(p_found -> 'counters'), 'object') = 'object'
        and (not p_found ? 'schema' or jsonb_typeof(p_found -> 'schema' -> 'digest') = 'string'), false)
$$;

-- What became of inspections: [{inspection_id, changed_at, found, error}]; found: {versions, invalid_indexes, server_major, counters,
-- schema: {digest, objects}}, see services/migrator/inspection.c. One that something else on the tenant has overtaken is made again.
create function migrator.end_inspections(p_results jsonb) returns void
language plpgsql
as $$
declare
    c_attempts constant int := 3;
    c_put_off constant int := 60; -- seconds: a wait as long as that is a finding
    v record;
    i inspection;
    v_overtaken text;
begin
    perform lock_owners(array(select r.inspection_id from jsonb_to_recordset(p_results) r (inspection_id uuid)));
    for v in
        select r.inspection_id, r.changed_at, r.found, r.error
        from jsonb_to_recordset(p_results) r (inspection_id uuid, changed_at timestamptz, found jsonb, error jsonb)
        join inspection q using (inspection_id)
        order by q.tenant_id
    loop
        select * into i from inspection where inspection_id = v.inspection_id for update;
        if not found then
            continue; -- the same result has come before
        end if;
        perform from tenant where tenant_id = i.tenant_id for update;
        v_overtaken := inspection_overtaken_by(i.tenant_id, v.changed_at);
        if not exists (select from provisioner.fleet where tenant_id = i.tenant_id) then
            null; -- it has left
        elsif v.error is not null and i.attempts < c_attempts then
            update inspection set next_at = clock_timestamp() + i.attempts * interval '2 seconds', put_off = put_off + 1
            where inspection_id = i.inspection_id;
            continue;
        elsif v.error is not null then
            perform inspection_failed(i, v.error);
        elsif not inspection_is_readable(v.found) then -- and what would fail here would keep all others from being recorded, too
            perform inspection_failed(i, '{"code": "unreadable", "class": "permanent", "detail": "it is told in no form that we know"}');
            v_overtaken := 'unreadable';
        elsif i.run_id is not null then
            perform note_probe(i.run_id, i.tenant_id, v.found);
        elsif v_overtaken is null then
            perform note_drift(i.check_id, i.tenant_id, v.found);
        elsif i.put_off < c_put_off then
            update inspection set next_at = clock_timestamp() + interval '1 second', attempts = 0, put_off = put_off + 1
            where inspection_id = i.inspection_id;
            continue;
        else
            perform add_finding(i.check_id, i.tenant_id, jsonb_build_object('kind', 'busy', 'activity', v_overtaken));
        end if;
        if v_overtaken is null and v.found ? 'schema' then
            perform record_fingerprint(i.tenant_id, v.found -> 'schema', (v.found ->> 'server_major')::int);
        end if;
        delete from inspection where inspection_id = i.inspection_id;
    end loop;
    perform end_drift_check();
end
$$;

-- A check in place of the one before, whether or not that one has ended.
create function migrator.accept_drift(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_check uuid := (p_data ->> 'check_id')::uuid;
    v_refusal jsonb := refuse_members(p_data);
    v drift_check;
    v_count int;
begin
    if v_refusal is not null then
        perform refuse(p_event, null, 'drift', v_refusal ->> 'code', v_refusal ->> 'field', v_refusal ->> 'detail');
        return;
    end if;
    perform from register for update; -- one at a time
    select * into v from drift_check for update;
    if v.check_id = v_check then
        perform refuse(p_event, null, 'drift', 'check_exists', 'check_id', 'there is a check with this id');
        return;
    end if;
    update catalog.operation
    set state = 'superseded', detail = 'another check was begun before this one had ended', finished_at = clock_timestamp()
    where operation_id = catalog.read_uuid(v.event ->> 'id')
      and service = 'migrator'
      and source = coalesce(v.event ->> 'source', '')
      and finished_at is null;
    delete from drift_check;
    insert into drift_check (check_id, with_schema, whole_fleet, tenants, event)
    values (v_check, coalesce((p_data ->> 'schema')::boolean, false), not (p_data ? 'labels' or p_data ? 'tenants'), 0,
            jsonb_build_object('id', p_event ->> 'id', 'source', p_event ->> 'source', 'traceparent', p_event ->> 'traceparent'))
    returning * into v;
    insert into inspection (tenant_id, check_id, with_schema)
    select m.tenant_id, v_check, v.with_schema from members(p_data) m (tenant_id);
    get diagnostics v_count = row_count;
    update drift_check set tenants = v_count where check_id = v_check;
    perform put_operation(p_event, null, 'drift', null);
    perform end_drift_check(); -- all who were named may have left the fleet by now
end
$$;

-- Those of the fleet who are meant by labels, or by name; else all.
create function migrator.members(p_wanted jsonb) returns setof uuid
language sql stable
as $$
    select f.tenant_id
    from provisioner.fleet f
    where (not p_wanted ? 'labels' or f.labels && array(select jsonb_array_elements_text(p_wanted -> 'labels')))
      and (not p_wanted ? 'tenants' or f.tenant_id = any (array(select jsonb_array_elements_text(p_wanted -> 'tenants')::uuid)))
$$;

-- Why nobody can be meant: {code, field, detail}, or null. p_wanted: labels, tenants, waves.
create function migrator.refuse_members(p_wanted jsonb) returns jsonb
language plpgsql stable
as $$
declare
    v_names text;
begin
    select string_agg(t.id, ', ') into v_names
    from jsonb_array_elements_text(p_wanted -> 'tenants') t (id)
    where not exists (select from provisioner.fleet f where f.tenant_id::text = t.id);
    if v_names is not null then
        return jsonb_build_object('code', 'unknown_tenant', 'field', 'tenants', 'detail',
            format('no tenant with a database in use: %s', left(v_names, 300)));
    end if;
    select string_agg(l.label, ', ') into v_names
    from (select jsonb_array_elements_text(p_wanted -> 'labels')
          union
          select jsonb_array_elements_text(w -> 'labels') from jsonb_array_elements(p_wanted -> 'waves') w) l (label)
    where l.label not in (select distinct unnest(f.labels) from provisioner.fleet f);
    if v_names is not null then
        return jsonb_build_object('code', 'unknown_label', 'field', 'labels', 'detail',
            format('no tenant has the label %s', left(v_names, 300)));
    end if;
    if not exists (select from provisioner.fleet) then
        return jsonb_build_object('code', 'empty_fleet', 'field', null, 'detail', 'no tenant has a database yet');
    end if;
    return null;
end
$$;

create view gateway.drift_check as
select c.check_id,
    jsonb_build_object(
        'check_id', c.check_id, 'state', c.state, 'schema', c.with_schema,
        'tenants', c.tenants,
        'waiting', (select count(*) from migrator.inspection i where i.check_id = c.check_id),
        'drifted', (select count(*) from migrator.drift d where d.check_id = c.check_id),
        'findings', c.result -> 'findings',
        'created_at', catalog.json_time(c.created_at), 'ended_at', catalog.json_time(c.ended_at)) as item
from migrator.drift_check c;

create view gateway.drift as
select d.tenant_id, jsonb_build_object('tenant_id', d.tenant_id, 'slug', t.slug, 'findings', d.findings) as item
from migrator.drift d
left join provisioner.tenant t using (tenant_id);
grant select on gateway.drift_check, gateway.drift to tenantry_gateway;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
