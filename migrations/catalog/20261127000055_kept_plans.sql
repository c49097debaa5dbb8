-- What is asked for each command keeps its plans. A function in SQL that cannot be inlined is planned anew at each call, which
-- took twice as long as all that was done. A plan that was made while a table was empty must not read all of it when it is
-- not empty any more (until it is analyzed), so these know no other way than an index.
-- migrate:up
set local check_function_bodies = off;

create or replace function catalog.business_now() returns timestamptz
language plpgsql stable parallel safe
as $$
begin
    return (select clock_timestamp() + ahead from catalog.business_clock);
end
$$;

create or replace function catalog.wanted_access(p_tenant_id uuid) returns text
language plpgsql stable
set enable_seqscan = off
as $$
begin
    return case when exists (
        select from catalog.access_wanted
        where tenant_id = p_tenant_id
          and wanted = 'none'
    ) then 'none' else 'full' end;
end
$$;

create or replace function provisioner.give_way(t provisioner.tenant) returns void
language plpgsql
set enable_seqscan = off
as $$
declare
    v_next text := next_activity(t); -- not in the condition: there it is asked for each row
begin
    if exists (select from catalog.activity where kind = v_next and urgent) then
        update saga
        set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
        where tenant_id = t.tenant_id
          and status = 'running'
          and not cancel_wanted
          and kind in (select kind from catalog.activity where gives_way);
    end if;
end
$$;

create or replace function provisioner.want_access(p_tenant_id uuid, p_wanted text, p_reason text) returns bigint
language plpgsql
as $$
declare
    v_version bigint;
begin
    insert into catalog.access_wanted as a (tenant_id, source, wanted, reason)
    values (p_tenant_id, 'operator', p_wanted, p_reason)
    on conflict (tenant_id, source) do update
        set wanted = excluded.wanted, reason = excluded.reason, version = a.version + 1,
            changed_at = clock_timestamp()
    returning version into v_version;
    return v_version;
end
$$;

create or replace function durable.put_operation(p_event jsonb, p_tenant_id uuid, p_kind text, p_target bigint) returns void
language plpgsql
as $$
begin
    insert into catalog.operation (operation_id, service, source, tenant_id, kind, target, body_hash)
    select catalog.read_uuid(p_event ->> 'id'), current_schema(), coalesce(p_event ->> 'source', ''), p_tenant_id, p_kind,
        p_target, p_event ->> 'body_hash'
    where catalog.read_uuid(p_event ->> 'id') is not null
    on conflict (operation_id) do update
        set tenant_id = excluded.tenant_id, kind = excluded.kind, target = excluded.target, state = 'accepted',
            body_hash = excluded.body_hash, code = null, field = null, detail = null, result = '{}', finished_at = null
        where operation.state in ('accepted', 'rejected')
          and operation.service = excluded.service
          -- Another system may number its events alike: not its operation.
          and operation.source = excluded.source;
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
