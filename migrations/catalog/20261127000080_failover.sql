-- A tenant server that goes on in another life (a standby took over, perhaps without the last seconds) may lack what the
-- catalog knows of: whoever was changed lately is looked at again, and what is missing is made again or told.
-- migrate:up
set local check_function_bodies = off;

alter table provisioner.server add column life text; -- system identifier and timeline, as it was last seen
alter table provisioner.tenant
    add column verify_wanted int not null default 0,
    add column verify_done int not null default 0;

insert into catalog.activity (kind, service, first_step, urgent, gives_way, background, blocks, operations)
values ('verify', 'provisioner', 'look', false, true, false, true, '{retry}');

-- As saga_check, and at this very step: a catalog that fell back knows the fence of a worker that has gone on since, whose
-- facts are of a time that never was.
create function durable.saga_at(p_saga_id uuid, p_fence bigint, p_step text) returns void
language plpgsql
as $$
begin
    perform lock_tenant((select tenant_id from saga where saga_id = p_saga_id)); -- first, as commands do
    perform saga_check(p_saga_id, p_fence);
    if (select step from saga where saga_id = p_saga_id) <> p_step then
        raise exception 'the saga stands at another step: it was taken over' using errcode = 'TN409';
    end if;
end
$$;
revoke execute on function durable.saga_at from public;
grant execute on function durable.saga_at to tenantry_provisioner, tenantry_migrator, tenantry_billing;

-- The server told in which life it is. In another one than before, its tenants that were changed within a day, a standby
-- is never further behind, are to be verified: also those that are gone from it, for they may be back. Returns how many.
create function provisioner.server_seen(p_server text, p_life text) returns bigint
language plpgsql
as $$
declare
    v_known text;
    v_count bigint;
begin
    select life into v_known from server where name = p_server;
    if v_known = p_life then
        return 0;
    end if;
    select life into v_known from server where name = p_server for update; -- one of all who see it
    if v_known = p_life then
        return 0;
    end if;
    update server set life = p_life where name = p_server;
    if v_known is null then
        return 0;
    end if;
    update tenant t
    set verify_wanted = t.verify_wanted + 1
    from database d
    join catalog.tenant_status s using (tenant_id)
    where d.server = p_server
      and t.tenant_id = d.tenant_id
      and t.generation = d.generation
      and s.changed_at > statement_timestamp() - interval '1 day';
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
revoke execute on function provisioner.server_seen from public;
grant execute on function provisioner.server_seen to tenantry_provisioner;

-- An archived tenant has nothing to be done to it but to be verified and restored; one whose database is gone may wait for a
-- person because of it, and is restored then. It keeps its plans: see 20261127000055.
create or replace function provisioner.next_activity(t provisioner.tenant) returns text
language plpgsql stable
as $$
begin
    return nullif(case
        when t.state = 'deprovisioned' then case when t.verify_done < t.verify_wanted then 'verify' end
        when t.lifecycle_wanted = 'gone' then 'deprovision'
        when t.state = 'requested' then 'provision'
        when t.restore_done < t.restore_wanted
            and (t.state = 'archived'
                 or (t.state = 'attention'
                     and t.blocked not in ('provision', 'deprovision', 'restore')
                     and (restore_in_hand(t.tenant_id, t.restore_done)).mode = 'in_place')) then 'restore'
        when t.state = 'archived' then case when t.verify_done < t.verify_wanted then 'verify' end
        when t.state <> 'ready' and not (t.state = 'attention' and t.blocked is null) then null
        when t.verify_done < t.verify_wanted then 'verify'
        when t.lifecycle_wanted = 'archived' then 'archive'
        when t.access_applied <> catalog.wanted_access(t.tenant_id) then 'access'
        when t.old_login_ends_at <= clock_timestamp() then 'retire'
        when t.rotation_applied < t.rotation_wanted and t.old_login_ends_at is null then 'rotate' -- else when it ended
        when t.backup_done < t.backup_wanted then 'backup'
        when t.restore_done < t.restore_wanted then 'restore'
        when t.invite_sent < t.invite_wanted then 'invite'
        when t.link_made < t.link_wanted then 'link'
    end, t.blocked);
end
$$;

create index tenant_doubtful on provisioner.tenant (tenant_id) where verify_done < verify_wanted;

create or replace view provisioner.tenant_to_compare as
select tenant_id
from provisioner.tenant
where (state = 'requested'
       or (lifecycle_wanted = 'gone' and state <> 'deprovisioned')
       or (lifecycle_wanted = 'archived' and state not in ('archived', 'deprovisioned'))
       or old_login_ends_at is not null
       or rotation_applied < rotation_wanted
       or backup_done < backup_wanted
       or invite_sent < invite_wanted
       or link_made < link_wanted
       or retry_done < retry_wanted)
  and state <> 'deprovisioned'
union
select tenant_id
from provisioner.tenant
where verify_done < verify_wanted
union
select tenant_id
from provisioner.tenant
where restore_done < restore_wanted
  and state <> 'deprovisioned'
union
select tenant_id
from provisioner.tenant t
where access_applied = 'none'
  and state in ('ready', 'attention')
  and not exists (select from catalog.access_wanted a where a.tenant_id = t.tenant_id and a.wanted = 'none')
union
select t.tenant_id
from catalog.access_wanted a
join provisioner.tenant t using (tenant_id)
where a.wanted = 'none'
  and t.access_applied = 'full'
  and t.state in ('ready', 'attention');

-- Facts that steps find out, guarded by the saga's fence. Only the columns named in p_facts change. Also how much of what is doubtful was verified.
create or replace function provisioner.learn(p_saga_id uuid, p_fence bigint, p_tenant_id uuid, p_facts jsonb) returns jsonb
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
        verify_done = coalesce((p_facts ->> 'verify_done')::int, t.verify_done),
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

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
