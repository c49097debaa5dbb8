-- The migrator moves in: the register of migration files, by content, and which of them each tenant has.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find inbox and offsets by the caller's search_path

select durable.add_service('migrator');

-- Fleet jobs hold a tenant only while they are connected to it, and give way.
insert into catalog.activity (kind, service, first_step, gives_way) values ('migrate', 'migrator', null, true);

-- Changes with each change of a file, so that processes know when to read the files again. Not a number: a restored catalog
-- would count to the same one again, with other files.
create table migrator.register (
    only_row boolean primary key default true check (only_row),
    state uuid not null default gen_random_uuid()
);
insert into migrator.register default values;

create table migrator.file (
    version text primary key,
    name text not null unique, -- files are in the order of their names, as bytes
    checksum text not null, -- SHA-256 of sql
    sql text not null,
    verify text, -- returns true if the file did what it should
    transaction boolean not null,
    reversible boolean not null,
    findings jsonb not null default '[]', -- of the linter
    rolled_out boolean not null default false, -- by a run that ended well: new tenants get it
    registered_at timestamptz not null default clock_timestamp(),
    registered_by text not null
);
create index file_order on migrator.file (name collate "C");

-- The different sets of versions that tenants have: a handful, however many tenants there are.
create table migrator.ledger (
    ledger_id bigint generated always as identity primary key,
    digest text not null unique,
    versions text[] not null, -- sorted
    newest text -- the last one in the order of the files
);

create table migrator.tenant (
    tenant_id uuid primary key,
    ledger_id bigint references migrator.ledger, -- null: nobody has looked since something may have changed it
    state text not null default 'current' check (state in ('current', 'failed', 'rolled_back')),
    run_id uuid, -- the last run that did something to it
    target text,
    error jsonb,
    changed_at timestamptz not null default clock_timestamp()
);
create index tenant_of_ledger on migrator.tenant (ledger_id, tenant_id);

grant select, insert, update, delete on migrator.register, migrator.file, migrator.ledger, migrator.tenant to tenantry_migrator;
grant usage on all sequences in schema migrator to tenantry_migrator;

-- "Before any run, new tenants get what a ready tenant has": looked up by file, never by counting tenants.
create index tenant_schema_version on provisioner.tenant (schema_version) where state = 'ready';

-- Who is in the fleet: whoever has a database with a schema, also a moment before it is ready: what a run brings meanwhile it
-- would miss.
create view provisioner.fleet as
select t.tenant_id, t.slug, t.company, t.state, t.plan, t.labels, t.driver, t.schema_version, t.access_applied = 'none' as suspended, d.server
from provisioner.tenant t
join provisioner.database d using (tenant_id, generation)
where t.state in ('provisioning', 'ready', 'attention')
  and d.status = 'live';

-- Where a tenant's database is, and its owner's login: what tenant_access.h reads. Not the logins of its product.
create view provisioner.owner_login as
select t.tenant_id,
    jsonb_build_object(
        'tenant_id', t.tenant_id,
        'generation', t.generation,
        'driver', t.driver,
        'database', jsonb_build_object('server', d.server, 'host', d.host, 'port', d.port, 'dbname', d.dbname,
                                       'owner_login', d.owner_login),
        'secrets', (select coalesce(jsonb_agg(jsonb_build_object('field', s.field, 'generation', s.generation, 'ring', s.ring,
                                                                 'sealed', s.sealed)), '[]')
                    from provisioner.secret s
                    where s.tenant_id = t.tenant_id
                      and s.field = 'owner_password'
                      and s.generation = t.generation)) as login
from provisioner.tenant t
join provisioner.database d using (tenant_id, generation);

grant usage on schema provisioner to tenantry_migrator;
grant select on provisioner.fleet, provisioner.owner_login to tenantry_migrator;

-- The files that a tenant without any gets: those of the last run that ended well; before there was one, those up to the newest
-- that a ready tenant has; else all. Null while a ready tenant has a file that is not registered: the register is not complete,
-- and the provisioner has its own.
create function migrator.wanted_versions() returns jsonb
language plpgsql stable
as $$
declare
    v_last text;
begin
    if exists (select from file where rolled_out) then
        return (select jsonb_agg(version order by name collate "C") from file where rolled_out);
    end if;
    if exists (
        with recursive had (version) as ( -- one look into the index for each
            (select schema_version from provisioner.tenant where state = 'ready' and schema_version is not null order by 1 limit 1)
            union all
            select (select t.schema_version
                    from provisioner.tenant t
                    where t.state = 'ready'
                      and t.schema_version > had.version
                    order by 1
                    limit 1)
            from had
            where had.version is not null)
        select from had where version is not null and not exists (select from file f where f.version = had.version)
    ) then
        return null;
    end if;
    select f.name into v_last
    from file f
    where exists (select from provisioner.tenant t where t.state = 'ready' and t.schema_version = f.version)
    order by f.name collate "C" desc
    limit 1;
    return (
        select coalesce(jsonb_agg(version order by name collate "C"), '[]')
        from file
        where v_last is null
           or name collate "C" <= v_last
    );
end
$$;

-- For whoever applies files: their content, unless it is the state that the caller has already; and what new tenants get.
create function catalog.migration_register(p_have text)
returns table (state text, files text, wanted text)
language sql stable security definer
set search_path = migrator, pg_temp
as $$
    select r.state::text,
        case when r.state::text is distinct from p_have then (
            select coalesce(jsonb_agg(jsonb_build_object('name', name, 'sql', sql, 'verify', verify)), '[]')::text
            from file) end,
        wanted_versions()::text
    from register r
$$;

-- What versions the tenant's database has now, as its own ledger says; null: that is not known any more.
create function catalog.record_ledger(p_tenant_id uuid, p_versions jsonb) returns void
language plpgsql security definer
set search_path = migrator, pg_temp
as $$
declare
    v_versions text[];
    v_ledger bigint;
begin
    if p_versions is not null then
        v_versions := array(select value from jsonb_array_elements_text(p_versions) order by value collate "C");
        select ledger_id into v_ledger from ledger where digest = md5(array_to_string(v_versions, ','));
        if v_ledger is null then
            insert into ledger (digest, versions, newest)
            values (md5(array_to_string(v_versions, ',')), v_versions,
                (select version from file where version = any (v_versions) order by name collate "C" desc limit 1))
            on conflict (digest) do update set digest = excluded.digest
            returning ledger_id into v_ledger;
        end if;
    end if;
    insert into tenant as t (tenant_id, ledger_id)
    values (p_tenant_id, v_ledger)
    on conflict (tenant_id) do update
        set ledger_id = excluded.ledger_id, changed_at = clock_timestamp()
        where t.ledger_id is distinct from excluded.ledger_id;
end
$$;

create function catalog.migration_wanted() returns jsonb
language sql stable security definer
set search_path = migrator, pg_temp
as $$
    select wanted_versions()
$$;

revoke execute on function catalog.migration_register, catalog.migration_wanted, catalog.record_ledger
    from public, tenantry_service;
grant execute on function catalog.migration_register, catalog.migration_wanted, catalog.record_ledger
    to tenantry_provisioner, tenantry_migrator;

-- As provisioner.learn, beside which it notes the versions that the database has. schema_behind: what new tenants get has
-- become more meanwhile.
create function provisioner.learn_schema(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_facts jsonb) returns jsonb
language plpgsql
as $$
declare
    v_context jsonb := learn(p_saga_id, p_fence, p_tenant_id, p_facts - 'schema_versions');
begin
    perform catalog.record_ledger(p_tenant_id, p_facts -> 'schema_versions');
    return v_context || jsonb_build_object('schema_behind',
        not coalesce(p_facts -> 'schema_versions' @> catalog.migration_wanted(), true));
end
$$;
grant execute on function provisioner.learn_schema to tenantry_provisioner;

-- Ends the operation of an event.
create function migrator.operation_done(p_event jsonb, p_result jsonb) returns void
language sql
as $$
    update catalog.operation
    set state = 'succeeded', result = p_result, finished_at = clock_timestamp()
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = 'migrator'
      and source = coalesce(p_event ->> 'source', '')
      and finished_at is null
$$;

-- Up to three tenants for a sentence, and how many more there are.
create function migrator.name_tenants(p_tenants uuid[]) returns text
language sql stable
as $$
    select string_agg(slug, ', ')
        || case when cardinality(p_tenants) > 3 then format(' and %s more', cardinality(p_tenants) - 3) else '' end
    from (select slug from provisioner.fleet where tenant_id = any (p_tenants[1:3]) order by slug) f
$$;

-- The sets of versions that somebody in the fleet has.
create view migrator.ledger_in_use as
select l.ledger_id, l.versions
from migrator.ledger l
where exists (select from migrator.tenant t join provisioner.fleet f using (tenant_id) where t.ledger_id = l.ledger_id);

-- The last files that the provisioner gave those whose ledger nobody has read yet: they have all up to it.
create view migrator.last_file_unread as
select u.schema_version as version, last.name
from (
    select distinct f.schema_version
    from provisioner.fleet f
    left join migrator.tenant t using (tenant_id)
    where t.ledger_id is null
) u
left join migrator.file last on last.version = u.schema_version;
grant select on migrator.ledger_in_use, migrator.last_file_unread to tenantry_migrator;

-- The files that somebody in the fleet does not have.
create function migrator.files_lacking() returns setof text
language sql stable
as $$
    with used as materialized (select versions from ledger_in_use),
    unread as materialized (select name from last_file_unread)
    select f.version
    from file f
    where exists (select from used where not versions @> array[f.version])
       or exists (select from unread where name is null or name collate "C" < f.name)
$$;

-- Who has it, or may have it: an attempt that was lost may have brought it.
create function migrator.tenants_with(p_version text) returns uuid[]
language sql stable
as $$
    select array(
        select f.tenant_id
        from ledger l
        join tenant t using (ledger_id)
        join provisioner.fleet f using (tenant_id)
        where l.versions @> array[p_version]
        union
        select f.tenant_id
        from provisioner.fleet f
        join file last on last.version = f.schema_version
        left join tenant t using (tenant_id)
        where t.ledger_id is null
          and last.name collate "C" >= (select name from file where version = p_version)
        union
        select f.tenant_id
        from job j
        join run r using (run_id)
        join provisioner.fleet f using (tenant_id)
        where j.in_doubt
          and r.versions @> array[p_version])
$$;

-- Registers a file by its content, as common/contracts/migration.h describes it. Returns null, or why not: {code, detail}. What a
-- tenant has, or a run brings, stays as it is.
create function migrator.register_file(p_file jsonb, p_by text) returns jsonb
language plpgsql
as $$
declare
    v file;
    v_tenants uuid[];
    v_newest text;
begin
    perform from register for update; -- one at a time
    select * into v from file where version = p_file ->> 'version';
    if v.checksum = p_file ->> 'checksum' and v.name = p_file ->> 'name' and v.verify is not distinct from p_file ->> 'verify' then
        return null;
    end if;
    if v.version is not null and (v.checksum, v.name) is distinct from (p_file ->> 'checksum', p_file ->> 'name') then
        v_tenants := tenants_with(v.version);
        if cardinality(v_tenants) > 0 then
            return jsonb_build_object('code', 'file_applied', 'detail',
                format('%s has been applied to %s: a file that a tenant has is not changed; write another one', v.name,
                       name_tenants(v_tenants)));
        end if;
    end if;
    if v.version is not null and file_is_in_use(v.version) then
        return jsonb_build_object('code', 'file_in_use', 'detail', format('a run that has not ended brings %s', v.name));
    end if;
    if v.version is null and not coalesce((p_file ->> 'out_of_order')::boolean, false) then
        select f.name into v_newest
        from file f
        join ledger_in_use l on l.versions @> array[f.version] and not l.versions @> array[p_file ->> 'version']
        where f.name collate "C" > p_file ->> 'name'
        order by f.name collate "C"
        limit 1;
        if v_newest is not null then
            return jsonb_build_object('code', 'out_of_order', 'detail',
                format('%s sorts before %s, which tenants have: give it a newer version, or register it out of order',
                       p_file ->> 'name', v_newest));
        end if;
    end if;
    insert into file (version, name, checksum, sql, verify, transaction, reversible, findings, registered_by)
    values (p_file ->> 'version', p_file ->> 'name', p_file ->> 'checksum', p_file ->> 'sql', p_file ->> 'verify',
            (p_file ->> 'transaction')::boolean, (p_file ->> 'reversible')::boolean, coalesce(p_file -> 'findings', '[]'), p_by)
    on conflict (version) do update
        set name = excluded.name, checksum = excluded.checksum, sql = excluded.sql, verify = excluded.verify,
            transaction = excluded.transaction, reversible = excluded.reversible, findings = excluded.findings,
            registered_at = clock_timestamp(), registered_by = excluded.registered_by;
    update register set state = gen_random_uuid();
    return null;
end
$$;

-- At start, from TENANT_MIGRATIONS, all at once: a tenant that is made meanwhile gets all of them or none. Returns those that are
-- refused; there is nobody to answer, so each is an alert.
create function migrator.register_at_start(p_files jsonb) returns table (name text, detail text)
language plpgsql
as $$
declare
    v_file jsonb;
    v_refusal jsonb;
    v_cause text;
begin
    for v_file in select value from jsonb_array_elements(p_files) loop
        v_refusal := register_file(v_file, 'TENANT_MIGRATIONS');
        v_cause := format('migration-file:%s', v_file ->> 'version');
        if v_refusal is null then
            perform catalog.resolve_alert(v_cause);
        else
            perform catalog.raise_alert(v_cause, null, 'a migration file in TENANT_MIGRATIONS is refused', v_refusal ->> 'detail');
            name := v_file ->> 'name';
            detail := v_refusal ->> 'detail';
            return next;
        end if;
    end loop;
end
$$;

create function migrator.accept_file(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_refusal jsonb := register_file(p_data, coalesce(p_event ->> 'source', ''));
begin
    if v_refusal is not null then
        perform refuse(p_event, null, 'register', v_refusal ->> 'code', 'name', v_refusal ->> 'detail');
        return;
    end if;
    perform put_operation(p_event, null, 'register', null);
    perform operation_done(p_event, jsonb_build_object('version', p_data ->> 'version', 'checksum', p_data ->> 'checksum'));
end
$$;

-- Out of the register again: what no tenant has, and no run brings.
create function migrator.withdraw_file(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v file;
    v_tenants uuid[];
    v_code text;
    v_detail text;
begin
    perform from register for update;
    select * into v from file where name = p_data ->> 'name';
    v_tenants := tenants_with(v.version);
    if v.version is null then
        v_code := 'unknown_file';
        v_detail := 'no file of this name is registered';
    elsif cardinality(v_tenants) > 0 then
        v_code := 'file_applied';
        v_detail := format('%s has been applied to %s: roll it back first', v.name, name_tenants(v_tenants));
    elsif file_is_in_use(v.version) then
        v_code := 'file_in_use';
        v_detail := format('a run that has not ended brings %s', v.name);
    end if;
    if v_code is not null then
        perform refuse(p_event, null, 'withdraw', v_code, 'name', v_detail);
        return;
    end if;
    delete from file where version = v.version;
    update register set state = gen_random_uuid();
    perform put_operation(p_event, null, 'withdraw', null);
    perform operation_done(p_event, jsonb_build_object('version', v.version));
end
$$;

create view gateway.migration_file as
select f.version, f.name, f.checksum, f.sql, f.verify,
    jsonb_build_object(
        'version', f.version, 'name', f.name, 'checksum', f.checksum, 'transaction', f.transaction, 'reversible', f.reversible,
        'verify', f.verify is not null, 'findings', f.findings, 'rolled_out', f.rolled_out,
        'registered_at', catalog.json_time(f.registered_at), 'registered_by', f.registered_by) as item
from migrator.file f;
grant select on gateway.migration_file to tenantry_gateway;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
