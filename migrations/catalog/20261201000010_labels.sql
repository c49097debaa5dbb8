-- Labels: words by which operators choose among tenants, for a rollout that begins with the canaries.
-- migrate:up
set local check_function_bodies = off;

alter table provisioner.tenant
    add column labels text[] not null default '{}' check (cardinality(labels) <= 20); -- sorted as bytes, each once

-- Most tenants have no label and cost the index nothing. A query must say "labels <> '{}'" to be answered by it.
create index tenant_of_label on provisioner.tenant using gin (labels) with (fastupdate = off) where labels <> '{}';

-- Labels from an event, as a tenant has them.
create function provisioner.label_set(p_labels jsonb) returns text[]
language sql immutable strict
as $$
    select coalesce(array_agg(distinct label collate "C" order by label collate "C"), '{}')
    from jsonb_array_elements_text(p_labels) label
$$;

-- What a command asks for that is so already changes nothing, and no watcher hears of it.
create function provisioner.put_labels(t provisioner.tenant, p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_added text[] := array(
        select label from unnest(label_set(p_data -> 'add')) label where label <> all (t.labels));
    v_removed text[] := array(
        select label from unnest(label_set(p_data -> 'remove')) label where label = any (t.labels));
    v_labels text[] := array(
        select label
        from unnest(t.labels || v_added) label
        where label <> all (v_removed)
        order by label collate "C");
begin
    if cardinality(v_labels) > 20 then
        perform refuse(p_event, t.tenant_id, 'label', 'too_many_labels', 'add',
            format('this tenant would have %s labels, and may have 20', cardinality(v_labels)));
        return;
    end if;
    perform put_operation(p_event, t.tenant_id, 'label', null);
    update catalog.operation
    set state = 'succeeded', finished_at = clock_timestamp()
    where operation_id = catalog.read_uuid(p_event ->> 'id')
      and service = 'provisioner'
      and source = coalesce(p_event ->> 'source', '')
      and state || '' = 'accepted'; -- see durable.refuse
    if v_labels = t.labels then
        return;
    end if;
    update tenant
    set labels = v_labels
    where tenant_id = t.tenant_id;
    perform catalog.record_change(
        t.tenant_id, 'tenant.labelled.v1',
        jsonb_build_object('added', v_added, 'removed', v_removed, 'reason', p_data ->> 'reason',
                           'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
end
$$;

-- As it was, but for labels, which any tenant that is not gone can have, and which have no process wait for anything.
create or replace function provisioner.accept_command(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_kind text := split_part(p_event ->> 'type', '.', 2);
    v tenant;
    v_target bigint;
    v_refusal record;
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
    if v.state = 'archived' and v_kind not in ('deprovision', 'restore', 'label') then
        perform refuse(p_event, v_tenant, v_kind, 'tenant_archived', null, 'this tenant is archived');
        return;
    end if;
    if v_kind = 'deprovision' and p_data ->> 'confirm' is distinct from v.slug then
        perform refuse(p_event, v_tenant, v_kind, 'not_confirmed', 'confirm',
            'deletion is protected: confirm must be the tenant''s subdomain');
        return;
    end if;
    if v_kind = 'label' then
        perform put_labels(v, p_event, p_data);
        return;
    end if;
    if v_kind = 'restore' then
        select * into v_refusal from refusal_of_restore(v, p_data);
        if v_refusal.code is not null then
            perform refuse(p_event, v_tenant, v_kind, v_refusal.code, v_refusal.field, v_refusal.detail);
            return;
        end if;
    end if;

    update tenant
    set caused_by = p_event ->> 'id',
        traceparent = p_event ->> 'traceparent',
        lifecycle_wanted = case v_kind
            when 'archive' then 'archived'
            when 'deprovision' then 'gone'
            else lifecycle_wanted end,
        rotation_wanted = rotation_wanted + (v_kind = 'rotate_credentials')::int,
        backup_wanted = backup_wanted + (v_kind = 'backup')::int,
        restore_wanted = restore_wanted + (v_kind = 'restore')::int,
        invite_wanted = invite_wanted + (v_kind = 'resend_invite')::int,
        retry_wanted = retry_wanted + (v_kind = 'retry')::int
    where tenant_id = v_tenant
    returning * into v;
    case v_kind
        when 'suspend' then
            v_target := want_access(v_tenant, 'none', p_data ->> 'reason');
        when 'resume' then
            v_target := want_access(v_tenant, 'full', p_data ->> 'reason');
        when 'archive' then
            null;
        when 'deprovision' then
            update saga
            set cancel_wanted = true, background = false, next_at = least(next_at, clock_timestamp())
            where tenant_id = v_tenant
              and status || '' = 'running';
        when 'rotate_credentials' then
            v_target := v.rotation_wanted;
        when 'backup' then
            v_target := v.backup_wanted;
        when 'restore' then
            v_target := v.restore_wanted;
            perform put_restore(v, p_data ->> 'mode', find_backup(v_tenant, p_data ->> 'backup'), false);
        when 'resend_invite' then
            v_target := v.invite_wanted;
        when 'invite_link' then
            v_target := want_link(v_tenant);
        when 'retry' then
            v_target := v.retry_wanted;
        else
            raise exception 'command % is known to the contract and not to the catalog', v_kind using errcode = 'TN500';
    end case;
    perform put_operation(p_event, v_tenant, v_kind, v_target);
    perform catalog.record_change(
        v_tenant, 'tenant.command.accepted.v1',
        jsonb_build_object('command', v_kind, 'reason', p_data ->> 'reason', 'source', p_event ->> 'source'),
        p_event ->> 'id', p_event ->> 'traceparent');
    perform wake(v_tenant); -- which has others give way
    perform settle_operations(v_tenant);
end
$$;

-- Reserved names are nobody's, except that a tenant labelled staging may ask for that one.
create function provisioner.slug_is_free(p_slug text, p_labels text[]) returns boolean
language plpgsql stable
set enable_seqscan = off
as $$
begin
    return not exists (
        select from slug
        where slug.slug = p_slug
          and (held_until is null or held_until > clock_timestamp())
    ) and (p_slug = 'staging' and p_slug = any (p_labels) or not p_slug = any (array[
        'www', 'api', 'admin', 'app', 'auth', 'billing', 'blog', 'cdn', 'dashboard', 'dev', 'docs', 'ftp', 'grafana',
        'help', 'imap', 'internal', 'localhost', 'login', 'mail', 'metrics', 'ns1', 'ns2', 'postgres', 'public', 'root',
        'smtp', 'staging', 'static', 'status', 'support', 'system', 'template0', 'template1', 'tenantry', 'test',
        'webhooks']));
end
$$;

create or replace function provisioner.slug_is_free(p_slug text) returns boolean
language plpgsql stable
as $$
begin
    return slug_is_free(p_slug, '{}');
end
$$;

create function provisioner.take_slug(p_slug text, p_tenant_id uuid, p_labels text[]) returns boolean
language plpgsql
as $$
begin
    perform lock_name('slug', p_slug);
    if not slug_is_free(p_slug, p_labels) then
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

create or replace function provisioner.take_slug(p_slug text, p_tenant_id uuid) returns boolean
language plpgsql
as $$
begin
    return take_slug(p_slug, p_tenant_id, '{}');
end
$$;

create or replace function provisioner.accept_signup(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_slug text := p_data ->> 'subdomain';
    v_labels text[] := coalesce(label_set(p_data -> 'labels'), '{}');
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
    elsif not take_slug(v_slug, v_tenant, v_labels) then
        perform refuse(p_event, v_tenant, 'signup', 'slug_taken', 'subdomain',
            format('the subdomain %s is taken', v_slug),
            jsonb_build_object('suggestions', free_slugs_like(v_slug, 3)));
        return;
    end if;

    insert into tenant (tenant_id, slug, company, email, admin_name, admin_id, plan, region, driver, labels,
                        caused_by, traceparent)
    values (v_tenant, v_slug, p_data ->> 'company', p_data ->> 'email', p_data ->> 'name',
            md5('admin of ' || v_tenant)::uuid, -- the same, should the signup be taken again
            coalesce(p_data ->> 'plan', 'starter'), p_data ->> 'region', p_data ->> 'driver', v_labels, p_event ->> 'id',
            p_event ->> 'traceparent');
    perform put_operation(p_event, v_tenant, 'signup', null);
    perform catalog.record_change(
        v_tenant, 'tenant.requested.v1',
        jsonb_build_object('slug', v_slug, 'company', p_data ->> 'company', 'plan',
                           coalesce(p_data ->> 'plan', 'starter'), 'labels', v_labels, 'source', p_event ->> 'source'),
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

create or replace view provisioner.tenant_part as
select
    t.tenant_id,
    jsonb_build_object(
        'slug', t.slug,
        'company', t.company,
        'plan', t.plan,
        'labels', t.labels,
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
      and x.status || '' in ('running', 'undoing')
    order by x.created_at
    limit 1
) g on true;

-- Snapshots have a member more, so each is published once more: the topic has what the catalog says. With a new version, as a
-- publisher may be sending the old one now.
update catalog.tenant_status s
set version = greatest(s.version + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint), changed_at = clock_timestamp()
from provisioner.tenant t
where t.tenant_id = s.tenant_id
  and t.state <> 'deprovisioned';

create or replace view gateway.tenant_row as
select tenant_id, state, slug, plan, company, created_at, state_since, labels
from provisioner.tenant;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
