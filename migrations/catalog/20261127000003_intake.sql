-- The entrance for messages, the same for every service: a service brings accept_event(event, data) and nothing else.
-- Dead letters, parked events and operations of all services stand in one table each, and say whose they are.
-- migrate:up
set local check_function_bodies = off; -- functions of durable find inbox, offsets and sagas by the caller's search_path

alter table catalog.operation add column service text not null default 'provisioner';
drop index catalog.operation_open;
create index operation_open on catalog.operation (tenant_id, service) where state = 'accepted';
create index operation_since on catalog.operation (created_at);

alter table provisioner.dead_letter set schema catalog;
alter table catalog.dead_letter add column service text not null default 'provisioner';
alter table catalog.dead_letter alter column service drop default;
alter table provisioner.parked set schema catalog;
alter table catalog.parked add column service text not null default 'provisioner';
alter table catalog.parked alter column service drop default;
create index parked_type on catalog.parked (service, (event ->> 'type'), id) where reason = 'type_unknown';
create index parked_age on catalog.parked (at);
grant select, insert, delete on catalog.dead_letter, catalog.parked
    to tenantry_provisioner, tenantry_migrator, tenantry_billing;

-- The tables each service has for itself.
create or replace function durable.create_tables(p_schema text, p_role text) returns void
language plpgsql
as $do$
begin
    execute format($$
        create table %1$I.inbox (like provisioner.inbox including all);
        create table %1$I.consumer_offset (like provisioner.consumer_offset including all);
        create table %1$I.saga (like provisioner.saga including all);
        grant select, insert, update, delete on %1$I.inbox, %1$I.consumer_offset, %1$I.saga to %2$I;
    $$, p_schema, p_role);
end
$do$;

create or replace function durable.put_dead_letter(p_message jsonb, p_code text, p_field text, p_detail text) returns void
language sql
as $$
    insert into dead_letter (service, topic, partition, at_offset, message_key, headers, value, code, field, detail)
    values (current_schema(), p_message ->> 'topic', (p_message ->> 'partition')::int, (p_message ->> 'offset')::bigint,
            decode(p_message ->> 'key', 'base64'), coalesce(p_message -> 'headers', '[]'),
            decode(p_message ->> 'value', 'base64'), p_code, p_field, p_detail)
$$;

-- The operation of an event whose id is a uuid. A replayed dead letter opens its rejected operation again: an event taken
-- before never comes here twice.
drop function provisioner.put_operation, provisioner.refuse;
create function durable.put_operation(p_event jsonb, p_tenant_id uuid, p_kind text, p_target bigint) returns void
language sql
as $$
    insert into catalog.operation (operation_id, service, source, tenant_id, kind, target, body_hash)
    select catalog.read_uuid(p_event ->> 'id'), current_schema(), coalesce(p_event ->> 'source', ''), p_tenant_id, p_kind,
        p_target, p_event ->> 'body_hash'
    where catalog.read_uuid(p_event ->> 'id') is not null
    on conflict (operation_id) do update
        set tenant_id = excluded.tenant_id, kind = excluded.kind, target = excluded.target, state = 'accepted',
            body_hash = excluded.body_hash, code = null, field = null, detail = null, result = '{}', finished_at = null
        where operation.state in ('accepted', 'rejected')
          and operation.service = excluded.service
          and operation.source = excluded.source -- another system may number its events alike: not its operation
$$;

-- A refusal by a service's rules (not by the contract): the producer is answered by event, the asker by operation.
create function durable.refuse(
    p_event jsonb,
    p_tenant_id uuid,
    p_kind text,
    p_code text,
    p_field text,
    p_detail text,
    p_more jsonb default '{}'
) returns void
language plpgsql
as $$
begin
    perform put_operation(p_event, p_tenant_id, p_kind, null);
    update catalog.operation
    set state = 'rejected', code = p_code, field = p_field, detail = p_detail, result = p_more,
        finished_at = clock_timestamp()
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = current_schema()
      and source = coalesce(p_event ->> 'source', '')
      and state = 'accepted';
    perform catalog.record_rejection(p_event, p_code, p_field, p_detail, p_more);
end
$$;

-- The one entrance. verdict: event (data is valid by its contract), dead (it is not; code, field, detail say why),
-- park (a type this version does not know), nothing (up to this offset no message is left to be taken). Returns what
-- durable.take_message says, or "dead", "parked", "passed".
drop function provisioner.take, provisioner.take_parked, provisioner.parked_next;
create function durable.take(
    p_message jsonb,
    p_previous bigint,
    p_verdict text,
    p_event jsonb,
    p_data jsonb,
    p_code text,
    p_field text,
    p_detail text
) returns text
language plpgsql
as $$
declare
    v_taken text;
begin
    v_taken := durable.take_message(
        p_message ->> 'topic', (p_message ->> 'partition')::int, (p_message ->> 'offset')::bigint, p_previous,
        (p_message ->> 'log_start')::bigint, p_event ->> 'source',
        case when p_verdict <> 'dead' then p_event ->> 'id' end, p_event ->> 'body_hash');
    if v_taken = 'conflict' then
        perform durable.put_dead_letter(p_message, 'event_id_conflict', 'id',
            'another event was taken under this id before');
        perform catalog.record_rejection(p_event, 'event_id_conflict', 'id',
            'another event was taken under this id before');
        return v_taken;
    end if;
    if v_taken <> 'new' then
        return v_taken;
    end if;
    if p_verdict = 'nothing' then
        return 'passed';
    end if;
    if p_verdict = 'dead' then
        perform durable.put_dead_letter(p_message, p_code, p_field, p_detail);
        -- Another event's operation is not ours to end, though a broken message bears its id.
        if p_event ->> 'id' is not null
            and not exists (select from catalog.operation where operation_id = catalog.read_uuid(p_event ->> 'id')) then
            perform durable.refuse(p_event, null, 'unknown', p_code, p_field, p_detail);
        else
            perform catalog.record_rejection(p_event, p_code, p_field, p_detail);
        end if;
        perform catalog.raise_alert('dead-letters:' || current_schema(), null, 'messages were refused',
            'see: tenantry dlq list');
        return 'dead';
    end if;
    if p_verdict = 'park' then
        insert into parked (service, reason, event, data)
        values (current_schema(), 'type_unknown', p_event, p_data);
        return 'parked';
    end if;
    perform accept_event(p_event, p_data);
    return 'new';
end
$$;

-- What a newer version can take up again: the oldest parked event of a type it knows.
create function durable.parked_next(p_types text[], p_after bigint) returns table (id bigint, event jsonb, data jsonb)
language sql
as $$
    select id, event, data
    from parked
    where service = current_schema()
      and reason = 'type_unknown'
      and event ->> 'type' = any (p_types)
      and id > p_after
    order by id
    limit 1
$$;

-- Takes it with the verdict of its contract, as take() does with what comes from Kafka.
create function durable.take_parked(p_id bigint, p_data jsonb, p_code text, p_field text, p_detail text) returns void
language plpgsql
as $$
declare
    v parked;
begin
    delete from parked
    where id = p_id
      and service = current_schema()
    returning * into v;
    if not found then
        return;
    end if;
    if p_code is not null then
        perform durable.refuse(v.event, null, split_part(v.event ->> 'type', '.', 2), p_code, p_field, p_detail);
    else
        perform accept_event(v.event, p_data);
    end if;
end
$$;

grant execute on function durable.put_operation, durable.refuse, durable.take, durable.parked_next, durable.take_parked
    to tenantry_provisioner, tenantry_migrator, tenantry_billing;

-- The provisioner's half.

create function provisioner.accept_event(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    if p_event ->> 'type' = 'tenant.signup.requested.v1' then
        perform accept_signup(p_event, p_data);
    else
        perform accept_command(p_event, p_data);
    end if;
end
$$;

-- Who decides about a name, or about a tenant that is not there yet, holds its lock until the decision is visible: others
-- wait, but only for the same name.
create function provisioner.lock_name(p_what text, p_name text) returns void
language sql
as $$
    select pg_advisory_xact_lock(hashtextextended(format('tenantry %s %s', p_what, p_name), 0))
$$;

-- The name is the tenant's from now on; false where somebody has it, or had it until lately.
create function provisioner.take_slug(p_slug text, p_tenant_id uuid) returns boolean
language plpgsql
as $$
begin
    perform lock_name('slug', p_slug);
    if not slug_is_free(p_slug) then
        return false;
    end if;
    insert into slug (slug, tenant_id)
    values (p_slug, p_tenant_id)
    on conflict (slug) do update
        set tenant_id = excluded.tenant_id, held_until = null
        where slug.held_until <= clock_timestamp();
    return found;
end
$$;

-- A free name like the one that was derived from the company's.
create function provisioner.take_slug_like(p_slug text, p_tenant_id uuid) returns text
language plpgsql
as $$
declare
    v_slug text;
begin
    if take_slug(p_slug, p_tenant_id) then
        return p_slug;
    end if;
    for v_slug in select jsonb_array_elements_text(free_slugs_like(p_slug, 10)) loop
        if take_slug(v_slug, p_tenant_id) then
            return v_slug;
        end if;
    end loop;
    v_slug := left(p_slug, 27) || '-' || left(p_tenant_id::text, 8);
    if not take_slug(v_slug, p_tenant_id) then
        v_slug := 't-' || translate(p_tenant_id::text, '-', '');
        perform take_slug(v_slug, p_tenant_id);
    end if;
    return v_slug;
end
$$;

create or replace function provisioner.accept_signup(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_slug text := p_data ->> 'subdomain';
    v_parked parked;
begin
    perform lock_name('tenant', v_tenant::text); -- whoever parks a command for it looks under the same lock
    if exists (select from tenant where tenant_id = v_tenant) then
        perform refuse(p_event, v_tenant, 'signup', 'tenant_exists', 'tenant_id',
            'this tenant id has signed up before');
        return;
    end if;
    if v_slug is null then
        v_slug := take_slug_like(p_data ->> 'slug', v_tenant);
    elsif not take_slug(v_slug, v_tenant) then
        perform refuse(p_event, v_tenant, 'signup', 'slug_taken', 'subdomain',
            format('the subdomain %s is taken', v_slug),
            jsonb_build_object('suggestions', free_slugs_like(v_slug, 3)));
        return;
    end if;

    insert into tenant (tenant_id, slug, company, email, admin_name, admin_id, plan, region, driver, caused_by,
                        traceparent)
    values (v_tenant, v_slug, p_data ->> 'company', p_data ->> 'email', p_data ->> 'name',
            md5('admin of ' || v_tenant)::uuid, -- the same, should the signup be taken again
            coalesce(p_data ->> 'plan', 'starter'), p_data ->> 'region', p_data ->> 'driver', p_event ->> 'id',
            p_event ->> 'traceparent');
    perform put_operation(p_event, v_tenant, 'signup', null);
    perform catalog.record_change(
        v_tenant, 'tenant.requested.v1',
        jsonb_build_object('slug', v_slug, 'company', p_data ->> 'company', 'plan',
                           coalesce(p_data ->> 'plan', 'starter'), 'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    for v_parked in
        select * from parked
        where tenant_id = v_tenant
          and service = 'provisioner'
          and reason = 'tenant_unknown'
        order by id
    loop
        delete from parked where id = v_parked.id;
        perform accept_command(v_parked.event, v_parked.data);
    end loop;
    perform wake(v_tenant);
end
$$;

-- A command that comes before its signup waits for it; who asked is told.
create function provisioner.park_command(p_event jsonb, p_data jsonb, p_kind text) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
begin
    insert into parked (service, tenant_id, reason, event, data)
    values ('provisioner', v_tenant, 'tenant_unknown', p_event, p_data);
    perform put_operation(p_event, v_tenant, p_kind, null);
    update catalog.operation
    set code = 'parked', detail = 'no tenant of this id has signed up: the command waits for its signup, 30 days at most'
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = 'provisioner'
      and source = coalesce(p_event ->> 'source', '')
      and state = 'accepted';
end
$$;

-- A further click on an invitation: one more link is wanted. Returns the number of the link that answers it.
create function provisioner.want_link(p_tenant_id uuid) returns int
language sql
as $$
    update tenant
    set link_wanted = link_wanted + 1
    where tenant_id = p_tenant_id
    returning link_wanted
$$;

-- A retry is a fact like the others: wanted under another's claim, it is applied when the claim is released.
alter table provisioner.tenant
    add column retry_wanted int not null default 0,
    add column retry_done int not null default 0;

create or replace function provisioner.accept_command(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_kind text := split_part(p_event ->> 'type', '.', 2);
    v tenant;
    v_target bigint;
begin
    select * into v from tenant where tenant_id = v_tenant for update;
    if not found then
        -- A signup that is being taken now must see what we park, or we must see its tenant.
        perform lock_name('tenant', v_tenant::text);
        select * into v from tenant where tenant_id = v_tenant for update;
    end if;
    if not found then
        perform park_command(p_event, p_data, v_kind);
        return;
    end if;
    if v.state = 'deprovisioned' or (v.lifecycle_wanted = 'gone' and v_kind not in ('deprovision', 'retry')) then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_gone', null, 'this tenant is deprovisioned');
        return;
    end if;
    if v.state = 'archived' and v_kind <> 'deprovision' then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_archived', null, 'this tenant is archived');
        return;
    end if;
    if v_kind = 'deprovision' and p_data ->> 'confirm' is distinct from v.slug then
        perform refuse(p_event, v_tenant, v_kind, 'not_confirmed', 'confirm',
            'deletion is protected: confirm must be the tenant''s subdomain');
        return;
    end if;

    update tenant
    set caused_by = p_event ->> 'id', traceparent = p_event ->> 'traceparent'
    where tenant_id = v_tenant;
    case v_kind
        when 'suspend' then
            v_target := want_access(v_tenant, 'none', p_data ->> 'reason');
        when 'resume' then
            v_target := want_access(v_tenant, 'full', p_data ->> 'reason');
        when 'archive' then
            update tenant set lifecycle_wanted = 'archived' where tenant_id = v_tenant;
        when 'deprovision' then
            update tenant set lifecycle_wanted = 'gone' where tenant_id = v_tenant;
            update saga
            set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
            where tenant_id = v_tenant
              and status = 'running';
        when 'rotate_credentials' then
            update tenant set rotation_wanted = rotation_wanted + 1 where tenant_id = v_tenant
            returning rotation_wanted into v_target;
        when 'backup' then
            update tenant set backup_wanted = backup_wanted + 1 where tenant_id = v_tenant
            returning backup_wanted into v_target;
        when 'resend_invite' then
            update tenant set invite_wanted = invite_wanted + 1 where tenant_id = v_tenant
            returning invite_wanted into v_target;
        when 'invite_link' then
            v_target := want_link(v_tenant);
        when 'retry' then
            update tenant set retry_wanted = retry_wanted + 1 where tenant_id = v_tenant
            returning retry_wanted into v_target;
        else
            raise exception 'command % is known to the contract and not to the catalog', v_kind using errcode = 'TN500';
    end case;
    perform put_operation(p_event, v_tenant, v_kind, v_target);
    select * into v from tenant where tenant_id = v_tenant;
    perform give_way(v);
    perform catalog.record_change(
        v_tenant, 'tenant.command.accepted.v1',
        jsonb_build_object('command', v_kind, 'reason', p_data ->> 'reason', 'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform wake(v_tenant);
    perform settle_operations(v_tenant);
end
$$;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
