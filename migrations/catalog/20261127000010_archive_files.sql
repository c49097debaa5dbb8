-- The files of the archive directory, held against what the catalog knows of backups and archives.
-- migrate:up
set local check_function_bodies = off;

-- What was not in order when the janitor looked last. Named TENANT/FILE, as below ARCHIVE_DIRECTORY.
create table provisioner.archive_file (
    name text primary key,
    tenant_id uuid not null,
    verdict text not null check (verdict in ('orphan', 'missing')),
    bytes bigint not null,
    detail text not null,
    superseded boolean not null default false, -- the janitor removes it when it is a day old: nobody need do anything
    seen_at timestamptz not null default clock_timestamp()
);
create index archive_file_of_tenant on provisioner.archive_file (tenant_id);

-- The last look that came to its end, in sum.
create table provisioner.archive_look (
    only_row boolean primary key default true check (only_row),
    known bigint not null,
    bytes bigint not null,
    seen_at timestamptz not null default clock_timestamp()
);
grant select, insert, update, delete on provisioner.archive_file, provisioner.archive_look to tenantry_provisioner;

-- TENANT/FILE of a location, wherever the directory was mounted when it was written.
create function provisioner.archive_name(p_location text) returns text
language sql immutable parallel safe
as $$
    select substring(p_location from '[^/]+/[^/]+$')
$$;

-- What a file is called by whoever makes it (services/provisioner/dump_file.c); nulls for any other name.
create function provisioner.read_archive_name(p_name text, out saga_id uuid, out fence bigint)
language sql immutable parallel safe
as $$
    select m[1]::uuid, m[2]::bigint
    from regexp_match(p_name, '^[0-9a-f-]{36}/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9]{1,18})\.(?:backup|archive)(?:\.partial)?$') m
$$;

-- p_files: a list of {tenant_id, name, bytes, age}, all that is in the folders of the tenants behind p_after up to p_until
-- (null: from the first, to the last), looked at within the last p_took_ms; age in seconds since it was written. Gives how
-- many of them the catalog knows, and which are to be removed: those that a dead or late attempt left behind, whose saga has
-- recorded a later one, when they are a day old.
create function provisioner.report_archive_files(
    p_after uuid,
    p_until uuid,
    p_files jsonb,
    p_took_ms bigint,
    out known bigint,
    out remove jsonb
)
language plpgsql
as $$
begin
    delete from archive_file
    where (p_after is null or tenant_id > p_after)
      and (p_until is null or tenant_id <= p_until);

    with there as (
        select f.tenant_id, f.tenant_id || '/' || f.name as name, f.bytes, f.age
        from jsonb_to_recordset(p_files) f (tenant_id uuid, name text, bytes bigint, age bigint)
    ), recorded as (
        select b.tenant_id, archive_name(b.location) as name, b.bytes, b.created_at, r.saga_id, r.fence
        from backup b, read_archive_name(archive_name(b.location)) r
        where (p_after is null or b.tenant_id > p_after)
          and (p_until is null or b.tenant_id <= p_until)
    ), unknown as (
        select t.*, r.saga_id, exists (
            select from recorded k
            where k.tenant_id = t.tenant_id
              and k.saga_id = r.saga_id
              and k.fence > r.fence) as superseded
        from there t, read_archive_name(t.name) r
        where not exists (select from recorded k where k.name = t.name)
    ), orphans as (
        insert into archive_file (name, tenant_id, verdict, bytes, detail, superseded)
        select u.name, u.tenant_id, 'orphan', u.bytes,
            case
                when u.superseded then 'left by an attempt of which a later one was recorded; it goes when it is a day old'
                when u.saga_id is null then 'not a name that we give'
                when u.name like '%.partial' then 'begun, and never brought to its end'
                else 'no backup or archive of the catalog'
            end,
            u.superseded
        from unknown u
        where u.superseded
           or u.saga_id is null
           or not exists ( -- else it is on its way
               select from saga s
               where s.saga_id = u.saga_id
                 and s.status in ('running', 'undoing'))
        on conflict (name) do nothing
    ), missing as (
        insert into archive_file (name, tenant_id, verdict, bytes, detail)
        select k.name, k.tenant_id, 'missing', k.bytes, 'the catalog knows it, the directory does not have it'
        from recorded k
        join tenant t using (tenant_id)
        where t.state <> 'deprovisioned' -- its files are the operator's to delete
          and k.created_at < clock_timestamp() - (p_took_ms + 5000) * interval '1 ms'
          and not exists (select from there f where f.name = k.name)
          and not exists ( -- else it was cleared away by age
              select from recorded n
              join there f using (name)
              where n.tenant_id = k.tenant_id
                and n.created_at > k.created_at)
        limit 10000 -- a directory that is not mounted lacks them all: so many tell as much
        on conflict (name) do nothing
    )
    select count(*) filter (where k.name is not null),
        coalesce(jsonb_agg(t.name) filter (where u.superseded and t.age > 86400), '[]')
    into known, remove
    from there t
    left join unknown u using (name)
    left join recorded k using (name);
end
$$;

-- The look has come to its end.
create function provisioner.archive_looked_at(p_known bigint, p_bytes bigint) returns void
language plpgsql
as $$
declare
    v_orphans bigint;
    v_missing bigint;
begin
    insert into archive_look (known, bytes)
    values (p_known, p_bytes)
    on conflict (only_row) do update
        set known = excluded.known, bytes = excluded.bytes, seen_at = clock_timestamp();

    select count(*) filter (where verdict = 'orphan' and not superseded), count(*) filter (where verdict = 'missing')
    into v_orphans, v_missing
    from archive_file;
    if v_orphans + v_missing > 0 then
        perform catalog.raise_alert('inventory:archive', null, 'archive files differ',
            format('%s files that no tenant knows, %s that are missing; see: tenantry inventory', v_orphans, v_missing));
    else
        perform catalog.resolve_alert('inventory:archive');
    end if;
end
$$;

-- One value: sums, and what is not in order.
create view gateway.archive as
select jsonb_build_object(
    'seen_at', catalog.json_time(l.seen_at),
    'known', coalesce(l.known, 0),
    'bytes', coalesce(l.bytes, 0),
    'orphan', (select count(*) from provisioner.archive_file where verdict = 'orphan'),
    'missing', (select count(*) from provisioner.archive_file where verdict = 'missing'),
    'files', (
        select coalesce(jsonb_agg(
            jsonb_build_object('name', f.name, 'tenant_id', f.tenant_id, 'verdict', f.verdict, 'bytes', f.bytes,
                               'detail', f.detail, 'seen_at', catalog.json_time(f.seen_at))
            order by f.superseded, f.verdict, f.name), '[]')
        from (select * from provisioner.archive_file order by superseded, verdict, name limit 500) f)
    ) as archive
from (select) one
left join provisioner.archive_look l on true;
grant select on gateway.archive to tenantry_gateway;

-- migrate:down
drop view gateway.archive;
drop function provisioner.archive_looked_at, provisioner.report_archive_files, provisioner.read_archive_name,
    provisioner.archive_name;
drop table provisioner.archive_look, provisioner.archive_file;
