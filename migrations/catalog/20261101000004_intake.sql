-- How events become facts: the provisioner's one entrance, signups, commands, and what it remembers while provisioning.
-- migrate:up
set local check_function_bodies = off;

-- A replayed dead letter opens its rejected operation again: an event taken before never comes here twice.
create function provisioner.put_operation(p_event jsonb, p_tenant_id uuid, p_kind text, p_target bigint) returns void
language sql
as $$
    insert into catalog.operation (operation_id, source, tenant_id, kind, target, body_hash)
    select (p_event ->> 'id')::uuid, coalesce(p_event ->> 'source', ''), p_tenant_id, p_kind, p_target, p_event ->> 'body_hash'
    where p_event ->> 'id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    on conflict (operation_id) do update
        set tenant_id = excluded.tenant_id, kind = excluded.kind, target = excluded.target, state = 'accepted',
            body_hash = excluded.body_hash, code = null, field = null, detail = null, result = '{}', finished_at = null
        where operation.state in ('accepted', 'rejected')
          and operation.source = excluded.source -- another system may number its events alike: not its operation
$$;

-- A refusal by our rules (not by the contract): the producer is answered by event, the asker by operation.
create function provisioner.refuse(
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
      and source = coalesce(p_event ->> 'source', '')
      and state = 'accepted';
    perform catalog.record_rejection(p_event, p_code, p_field, p_detail, p_more);
end
$$;

create function provisioner.slug_is_free(p_slug text) returns boolean
language sql
as $$
    select not exists (
        select from slug
        where slug.slug = p_slug
          and (held_until is null or held_until > clock_timestamp())
    ) and not p_slug = any (array[
        'www', 'api', 'admin', 'app', 'auth', 'billing', 'blog', 'cdn', 'dashboard', 'dev', 'docs', 'ftp', 'grafana',
        'help', 'imap', 'internal', 'localhost', 'login', 'mail', 'metrics', 'ns1', 'ns2', 'postgres', 'public', 'root',
        'smtp', 'staging', 'static', 'status', 'support', 'system', 'template0', 'template1', 'tenantry', 'test',
        'webhooks'])
$$;

create function provisioner.free_slugs_like(p_slug text, p_count int) returns jsonb
language sql
as $$
    select coalesce(jsonb_agg(candidate), '[]')
    from (
        select left(p_slug, 37) || '-' || n as candidate -- with two digits still a subdomain by the contract
        from generate_series(2, 60) n
        where slug_is_free(left(p_slug, 37) || '-' || n)
        order by n
        limit p_count
    ) free
$$;

create function provisioner.accept_signup(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_slug text := coalesce(p_data ->> 'subdomain', p_data ->> 'slug');
    v_parked parked;
begin
    -- Two signups for one name are decided one after the other, in the order in which they were taken.
    perform pg_advisory_xact_lock(hashtextextended('tenantry slug', 0));
    if exists (select from tenant where tenant_id = v_tenant) then
        perform refuse(p_event, v_tenant, 'signup', 'tenant_exists', 'tenant_id',
            'this tenant id has signed up before');
        return;
    end if;
    if not slug_is_free(v_slug) then
        if p_data ->> 'subdomain' is not null then
            perform refuse(p_event, v_tenant, 'signup', 'slug_taken', 'subdomain',
                format('the subdomain %s is taken', v_slug),
                jsonb_build_object('suggestions', free_slugs_like(v_slug, 3)));
            return;
        end if;
        v_slug := coalesce(free_slugs_like(v_slug, 1) ->> 0, left(v_slug, 27) || '-' || left(v_tenant::text, 8));
    end if;

    insert into slug (slug, tenant_id)
    values (v_slug, v_tenant)
    on conflict (slug) do update
        set tenant_id = excluded.tenant_id, held_until = null;
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
          and reason = 'tenant_unknown'
        order by id
    loop
        delete from parked where id = v_parked.id;
        perform accept_command(v_parked.event, v_parked.data);
    end loop;
    perform wake(v_tenant);
end
$$;

create function provisioner.want_access(p_tenant_id uuid, p_wanted text, p_reason text) returns bigint
language sql
as $$
    insert into catalog.access_wanted as a (tenant_id, source, wanted, reason)
    values (p_tenant_id, 'operator', p_wanted, p_reason)
    on conflict (tenant_id, source) do update
        set wanted = excluded.wanted, reason = excluded.reason, version = a.version + 1,
            changed_at = clock_timestamp()
    returning version
$$;

-- Tries again what waits for a person: a provisioning that failed starts anew in the next generation, one that passed
-- its point of no return goes on where it stands, anything else is compared anew.
create function provisioner.accept_retry(p_tenant_id uuid) returns void
language plpgsql
as $$
declare
    v tenant;
    v_saga saga;
begin
    select * into v from tenant where tenant_id = p_tenant_id;
    if v.state <> 'attention' or exists (select from catalog.tenant_claim where tenant_id = p_tenant_id) then
        return; -- somebody is at it already: a generation must not change under a saga
    end if;
    select * into v_saga
    from saga
    where tenant_id = p_tenant_id
      and kind = v.blocked
    order by created_at desc
    limit 1;
    update tenant set blocked = null where tenant_id = p_tenant_id;
    if v.blocked = 'provision' and v_saga.status = 'attention' then
        insert into catalog.tenant_claim (tenant_id, kind, holder)
        values (p_tenant_id, 'provision', v_saga.saga_id);
        update saga
        set status = case when v_saga.data ->> 'undoing' = 'true' then 'undoing' else 'running' end,
            attempt = 0, crashes = 0, next_at = clock_timestamp(),
            step_since = catalog.business_now(), finished_at = null
        where saga_id = v_saga.saga_id;
        perform set_state(p_tenant_id, 'provisioning', null, null);
    elsif v.blocked = 'provision' then -- it was undone
        update tenant set generation = generation + 1 where tenant_id = p_tenant_id;
        perform set_state(p_tenant_id, 'requested', null, null);
    else -- it has its database, and keeps it
        select * into v from tenant where tenant_id = p_tenant_id;
        if next_activity(v) is null then
            perform set_state(p_tenant_id, 'ready', null, null);
        end if;
    end if;
end
$$;

create function provisioner.accept_command(p_event jsonb, p_data jsonb) returns void
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
        perform pg_advisory_xact_lock(hashtextextended('tenantry slug', 0));
        select * into v from tenant where tenant_id = v_tenant for update;
    end if;
    if not found then
        insert into parked (tenant_id, reason, event, data)
        values (v_tenant, 'tenant_unknown', p_event, p_data);
        perform put_operation(p_event, v_tenant, v_kind, null);
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
            update tenant set link_wanted = link_wanted + 1 where tenant_id = v_tenant
            returning link_wanted into v_target;
        when 'retry' then
            perform accept_retry(v_tenant);
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

-- The one entrance. verdict: event (data is valid by its contract), dead (it is not; code, field, detail say why),
-- park (a type this version does not know), nothing (up to this offset no message is left to be taken). Returns what
-- durable.take_message says, or "dead", "parked", "passed".
create function provisioner.take(
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
            perform refuse(p_event, null, 'unknown', p_code, p_field, p_detail);
        else
            perform catalog.record_rejection(p_event, p_code, p_field, p_detail);
        end if;
        perform catalog.raise_alert('dead-letters:provisioner', null, 'messages were refused',
            'see: tenantry dlq list');
        return 'dead';
    end if;
    if p_verdict = 'park' then
        insert into parked (reason, event, data)
        values ('type_unknown', p_event, p_data);
        return 'parked';
    end if;
    if p_event ->> 'type' = 'tenant.signup.requested.v1' then
        perform accept_signup(p_event, p_data);
    else
        perform accept_command(p_event, p_data);
    end if;
    return 'new';
end
$$;

-- What a newer version can take up again: the oldest parked event of a type it knows.
create function provisioner.parked_next(p_types text[], p_after bigint) returns table (id bigint, event jsonb, data jsonb)
language sql
as $$
    select id, event, data
    from parked
    where reason = 'type_unknown'
      and event ->> 'type' = any (p_types)
      and id > p_after
    order by id
    limit 1
$$;

-- Takes it with the verdict of its contract, as take() does with what comes from Kafka.
create function provisioner.take_parked(p_id bigint, p_data jsonb, p_code text, p_field text, p_detail text) returns void
language plpgsql
as $$
declare
    v parked;
begin
    delete from parked
    where id = p_id
    returning * into v;
    if not found then
        return;
    end if;
    if p_code is not null then
        perform refuse(v.event, null, split_part(v.event ->> 'type', '.', 2), p_code, p_field, p_detail);
    elsif v.event ->> 'type' = 'tenant.signup.requested.v1' then
        perform accept_signup(v.event, p_data);
    else
        perform accept_command(v.event, p_data);
    end if;
end
$$;

-- Everything a saga needs to know of its tenant, read when it is claimed and after each change of facts.
create function provisioner.saga_context(p_tenant_id uuid) returns jsonb
language sql
as $$
    select to_jsonb(t) || jsonb_build_object(
        'access_wanted', catalog.wanted_access(t.tenant_id),
        'database', (select to_jsonb(d) from database d
                     where d.tenant_id = t.tenant_id and d.generation = t.generation),
        -- Where a project of this tenant never came up: the next one is made elsewhere if it can.
        'stuck_regions', (select coalesce(jsonb_object_agg(q.region, true), '{}') from database q
                          where q.tenant_id = t.tenant_id and q.status = 'quarantined' and q.region is not null),
        'secrets', (select coalesce(jsonb_agg(to_jsonb(s)), '[]') from secret s where s.tenant_id = t.tenant_id))
    from tenant t
    where t.tenant_id = p_tenant_id
$$;

-- The first step of a provisioning: names and secrets are fixed and stored before anything is done with them. Asked
-- again, it gives what was fixed before.
create function provisioner.reserve(
    p_saga_id uuid,
    p_fence bigint,
    p_tenant_id uuid,
    p_name text,
    p_app_login text,
    p_owner_login text,
    p_secrets jsonb
) returns jsonb
language plpgsql
as $$
declare
    v tenant;
    v_known database;
    v_server server;
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    select * into v from tenant where tenant_id = p_tenant_id for update;
    select * into v_known from database where tenant_id = p_tenant_id and generation = v.generation;
    -- Again where it was given up: the tenant was found elsewhere, perhaps in the same generation.
    if v_known.tenant_id is null or v_known.status = 'deleted' then
        if v.driver = 'postgres' then
            perform pg_advisory_xact_lock(hashtextextended('tenantry placement', 0));
            select s.* into v_server
            from server s,
                lateral (select count(*) as used from database d
                         where d.server = s.name and d.status <> 'deleted') n
            where s.enabled
              and case when v.home_server is not null then s.name = v.home_server else n.used < s.capacity end
              and (v.region is null or s.region is null or s.region = v.region or s.name = v.home_server)
            order by n.used::float / greatest(s.capacity, 1), s.name
            limit 1;
            if not found and v.region is not null
                and not exists (select from server s where s.enabled and (s.region is null or s.region = v.region)) then
                return jsonb_build_object('unknown_region', v.region, 'regions',
                    (select coalesce(string_agg(distinct s.region, ', '), 'none') from server s where s.enabled));
            elsif not found then
                return null;
            end if;
        end if;
        insert into database (tenant_id, generation, driver, server, name, dbname, host, port, region, owner_login,
                              app_login)
        values (p_tenant_id, v.generation, v.driver, v_server.name, p_name,
                case when v.driver = 'postgres' then p_name end, v_server.tenant_host, v_server.tenant_port,
                coalesce(v_server.region, v.region), p_owner_login, p_app_login)
        on conflict (tenant_id, generation) do update
            set server = excluded.server, host = excluded.host, port = excluded.port, region = excluded.region,
                status = 'reserved', reservation = gen_random_uuid(), adopted = false, created_at = clock_timestamp();
        insert into secret (tenant_id, field, generation, ring, sealed)
        select p_tenant_id, s ->> 'field', (s ->> 'generation')::int, s ->> 'ring', s ->> 'sealed'
        from jsonb_array_elements(p_secrets) s
        on conflict (tenant_id, field, generation) do nothing;
    end if;
    return saga_context(p_tenant_id);
end
$$;

-- Facts that steps find out, guarded by the saga's fence. Only the columns named in p_facts change.
create function provisioner.learn(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_facts jsonb) returns jsonb
language plpgsql
as $$
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    update tenant t
    set access_applied = coalesce(p_facts ->> 'access_applied', t.access_applied),
        rotation_applied = coalesce((p_facts ->> 'rotation_applied')::int, t.rotation_applied),
        old_login_ends_at = case
            when p_facts ? 'old_login_overlap_ms'
                then clock_timestamp() + (p_facts ->> 'old_login_overlap_ms')::bigint * interval '1 ms'
            when p_facts ? 'old_login_ended' then null
            else t.old_login_ends_at end,
        backup_done = coalesce((p_facts ->> 'backup_done')::int, t.backup_done),
        backup_at = coalesce((p_facts ->> 'backup_at')::timestamptz, t.backup_at),
        invite_sent = coalesce((p_facts ->> 'invite_sent')::int, t.invite_sent),
        link_made = coalesce((p_facts ->> 'link_made')::int, t.link_made),
        schema_version = coalesce(p_facts ->> 'schema_version', t.schema_version),
        generation = coalesce((p_facts ->> 'generation')::int, t.generation),
        home_server = coalesce(p_facts ->> 'home_server', t.home_server)
    where t.tenant_id = p_tenant_id;
    update database d
    set status = coalesce(p_facts ->> 'database_status', d.status),
        project_ref = coalesce(p_facts ->> 'project_ref', d.project_ref),
        region = coalesce(p_facts ->> 'region', d.region),
        -- A project without a birthday, or one older than our wish for it (as far as clocks agree), is not this
        -- provisioning's own.
        adopted = d.adopted or coalesce((p_facts ->> 'adopted')::boolean, false) or case
            when p_facts ? 'project_created_at'
                then coalesce(catalog.read_time(p_facts ->> 'project_created_at') < d.created_at - interval '5 minutes', true)
            else false end,
        host = coalesce(p_facts ->> 'host', d.host),
        port = coalesce(p_facts ->> 'port', d.port),
        dbname = coalesce(p_facts ->> 'dbname', d.dbname),
        owner_login = coalesce(p_facts ->> 'owner_login', d.owner_login),
        app_login = coalesce(p_facts ->> 'app_login', d.app_login),
        login_suffix = coalesce(p_facts ->> 'login_suffix', d.login_suffix),
        data_api_schemas = coalesce(p_facts ->> 'data_api_schemas', d.data_api_schemas)
    from tenant t
    where t.tenant_id = p_tenant_id
      and d.tenant_id = p_tenant_id
      and d.generation = coalesce((p_facts ->> 'of_generation')::int, t.generation);
    insert into secret (tenant_id, field, generation, ring, sealed)
    select p_tenant_id, s ->> 'field', (s ->> 'generation')::int, s ->> 'ring', s ->> 'sealed'
    from jsonb_array_elements(p_facts -> 'secrets') s
    on conflict (tenant_id, field, generation) do nothing;
    if p_facts ? 'old_login_ended' then -- nobody needs its password any more
        delete from secret s
        using tenant t
        where t.tenant_id = p_tenant_id
          and s.tenant_id = p_tenant_id
          and s.field = 'app_password'
          and s.generation < t.rotation_applied;
    end if;
    return saga_context(p_tenant_id);
end
$$;

create function provisioner.learn_backup(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_backup jsonb)
returns void
language plpgsql
as $$
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    insert into backup (tenant_id, location, kind, bytes, sha256, objects)
    values (p_tenant_id, p_backup ->> 'location', p_backup ->> 'kind', (p_backup ->> 'bytes')::bigint,
            p_backup ->> 'sha256', (p_backup ->> 'objects')::int)
    on conflict (tenant_id, location) do update
        set bytes = excluded.bytes, sha256 = excluded.sha256, objects = excluded.objects;
end
$$;

-- A tenant that is gone keeps no secret, no address and no name of a person.
create function provisioner.forget(p_saga_id uuid, p_fence bigint, p_tenant_id uuid) returns void
language plpgsql
as $$
begin
    perform lock_tenant(p_tenant_id);
    perform durable.saga_check(p_saga_id, p_fence);
    delete from secret where tenant_id = p_tenant_id;
    update database set status = 'deleted' where tenant_id = p_tenant_id and status <> 'quarantined';
    update tenant set email = '', admin_name = null where tenant_id = p_tenant_id;
end
$$;

-- Quarantined projects, and the word that one is gone.
create function provisioner.quarantined(p_driver text) returns table (tenant_id uuid, generation int, name text, project_ref text)
language sql
as $$
    select d.tenant_id, d.generation, d.name, d.project_ref
    from database d
    join tenant t using (tenant_id)
    where d.driver = p_driver
      and d.status = 'quarantined'
      and d.generation <> t.generation -- what a tenant uses now is never deleted from here
    limit 20
$$;

create function provisioner.quarantine_ended(p_tenant_id uuid, p_generation int) returns void
language sql
as $$
    update database
    set status = 'deleted'
    where tenant_id = p_tenant_id
      and generation = p_generation
      and status = 'quarantined'
$$;

create function provisioner.sync_servers(p_servers jsonb) returns void
language sql
as $$
    update server set enabled = false where jsonb_array_length(p_servers) > 0;
    insert into server (name, region, capacity, tenant_host, tenant_port)
    select s ->> 'name', s ->> 'region', (s ->> 'capacity')::int, s ->> 'tenant_host', s ->> 'tenant_port'
    from jsonb_array_elements(p_servers) s
    on conflict (name) do update
        set region = excluded.region, capacity = excluded.capacity, tenant_host = excluded.tenant_host,
            tenant_port = excluded.tenant_port, enabled = true;
    -- A server that moved (or its standby that took over) takes its tenants along.
    update database d
    set host = s.tenant_host, port = s.tenant_port
    from server s
    where d.server = s.name
      and d.status <> 'deleted'
      and (d.host, d.port) is distinct from (s.tenant_host, s.tenant_port);
$$;

-- Level-triggered safety net: whoever should have been woken and was not is woken now.
create function provisioner.wake_all() returns bigint
language sql
as $$
    select count(wake(t.tenant_id))
    from tenant t
    left join (select distinct a.tenant_id from catalog.access_wanted a where a.wanted = 'none') closed using (tenant_id)
    where t.state <> 'deprovisioned'
      -- Cheap questions first: thousands of tenants are as they should be.
      and (t.state = 'requested'
           or t.lifecycle_wanted <> 'live'
           or (t.access_applied = 'full') <> (closed.tenant_id is null)
           or t.old_login_ends_at <= clock_timestamp()
           or t.rotation_applied < t.rotation_wanted
           or t.backup_done < t.backup_wanted
           or t.invite_sent < t.invite_wanted
           or t.link_made < t.link_wanted)
      and next_activity(t) is not null
      and not exists (
          select from catalog.tenant_claim c
          where c.tenant_id = t.tenant_id
            and not (c.kind in ('backup', 'invite', 'rotate', 'retire', 'link')
                     and next_activity(t) in ('access', 'archive', 'deprovision')))
$$;

-- migrate:down
drop function provisioner.put_operation, provisioner.refuse, provisioner.slug_is_free, provisioner.free_slugs_like,
    provisioner.accept_signup, provisioner.want_access, provisioner.accept_retry, provisioner.accept_command,
    provisioner.take, provisioner.parked_next, provisioner.take_parked, provisioner.saga_context, provisioner.reserve, provisioner.learn,
    provisioner.learn_backup, provisioner.forget,
    provisioner.quarantined, provisioner.quarantine_ended, provisioner.sync_servers, provisioner.wake_all;
