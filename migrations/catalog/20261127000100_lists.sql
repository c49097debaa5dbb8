-- Lists that are sorted, searched and found by the beginning of an id, at any size of the fleet; operators put alerts and dead
-- letters away, and who did so is in the history.
-- migrate:up
set local check_function_bodies = off;

create index tenant_page_of_slug on provisioner.tenant (slug collate "C", tenant_id) where state <> 'deprovisioned';
create index tenant_page_of_change on provisioner.tenant (state_since, tenant_id) where state <> 'deprovisioned';

-- Without the extension (a distribution may ship it apart, an owner may lack the right) a search reads all tenants: slower, and
-- right as well.
do $do$
begin
    create extension if not exists pg_trgm with schema catalog;
    execute format($$
        create index tenant_words on provisioner.tenant using gin (slug %1$s.gin_trgm_ops, company %1$s.gin_trgm_ops)
        where state <> 'deprovisioned'
    $$, (select extnamespace::regnamespace from pg_extension where extname = 'pg_trgm'));
exception
    when insufficient_privilege or undefined_file or feature_not_supported then
        raise notice 'no pg_trgm: searches among many tenants are slower: %', sqlerrm;
end
$do$;

create or replace view gateway.tenant_row as
select tenant_id, state, slug, plan, company, created_at, state_since
from provisioner.tenant;

create index operation_page on catalog.operation (created_at, operation_id);
create index operation_page_of_tenant on catalog.operation (tenant_id, created_at, operation_id);
create index operation_page_of_state on catalog.operation (state, created_at, operation_id) where state <> 'succeeded';

create view gateway.operation_row as
select operation_id, tenant_id, state, created_at
from catalog.operation;

create index alert_open_page on catalog.alert (alert_id) where resolved_at is null;

-- What an operator did that touches no tenant: like a rejection, an event without a version.
create function catalog.record_deed(p_key text, p_action text, p_id bigint, p_about text, p_code text, p_by text) returns void
language sql
as $$
    insert into catalog.tenant_event (message_key, type, data)
    values (p_key, 'tenant.operator.acted.v1',
            jsonb_build_object('action', p_action, 'id', p_id, 'about', p_about, 'code', p_code, 'by', p_by))
$$;

-- By hand; whoever raised it raises it anew while its cause goes on. Returns what became of it: resolved (again: nothing
-- happens) or not_found.
create function catalog.resolve_alert_by_hand(p_alert_id bigint, p_by text) returns text
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v alert;
begin
    select * into v from alert where alert_id = p_alert_id for update;
    if not found then
        return 'not_found';
    end if;
    if v.resolved_at is null then
        update alert set resolved_at = clock_timestamp() where alert_id = p_alert_id;
        perform record_deed(coalesce(v.tenant_id::text, v.cause), 'alert_resolved', v.alert_id, v.cause, null, p_by);
    end if;
    return 'resolved';
end
$$;

-- Throws a dead letter away: dropped, not_found, not_confirmed (p_confirm is not the code it was refused with), or
-- not_published: this is the only copy until its topic has one. With a service's last one goes its alert.
create function catalog.drop_dead_letter(p_id bigint, p_confirm text, p_by text) returns text
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
declare
    v dead_letter;
    v_place text;
begin
    select * into v from dead_letter where id = p_id for update;
    if not found then
        return 'not_found';
    end if;
    if v.code is distinct from p_confirm then
        return 'not_confirmed';
    end if;
    if not v.published then
        return 'not_published';
    end if;
    v_place := format('%s[%s]@%s', v.topic, v.partition, v.at_offset);
    delete from dead_letter where id = p_id;
    perform record_deed(v_place, 'dead_letter_dropped', v.id, v_place, v.code, p_by);
    if not exists (select from dead_letter where service = v.service) then
        perform resolve_alert('dead-letters:' || v.service);
    end if;
    return 'dropped';
end
$$;

revoke execute on function catalog.record_deed, catalog.resolve_alert_by_hand, catalog.drop_dead_letter from public;
grant execute on function catalog.resolve_alert_by_hand, catalog.drop_dead_letter to tenantry_gateway;
grant select on gateway.operation_row to tenantry_gateway;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
