-- Sign-in links, of which only the newest is kept; and gateways that work with tokens their file does not have any more.
-- migrate:up
set local check_function_bodies = off;

alter table provisioner.tenant add column link_wanted_at timestamptz;

-- One more sign-in link is wanted: returns the number of the one that will do. While one is under way, or so young that
-- whoever clicked again cannot have used it, that is the same one.
create or replace function provisioner.want_link(p_tenant_id uuid) returns int
language sql
as $$
    update provisioner.tenant t
    set link_wanted = t.link_wanted + n.more,
        link_wanted_at = case when n.more > 0 then clock_timestamp() else t.link_wanted_at end
    from (
        select tenant_id,
            case when link_made < link_wanted or link_wanted_at > clock_timestamp() - interval '5 seconds' then 0 else 1 end
                as more
        from provisioner.tenant
        where tenant_id = p_tenant_id
        for update
    ) n
    where t.tenant_id = n.tenant_id
    returning t.link_wanted
$$;

-- A link works once and lives shortly: the one before is of no use to anybody, and would be loaded with every claim.
create function provisioner.forget_older_links() returns trigger
language plpgsql
as $$
begin
    delete from provisioner.secret
    where tenant_id = new.tenant_id
      and field = 'invite_link'
      and generation < new.generation;
    return null;
end
$$;

create trigger secret_newest_link
after insert on provisioner.secret
for each row
when (new.field = 'invite_link')
execute function provisioner.forget_older_links();

delete from provisioner.secret s
using provisioner.tenant t
where t.tenant_id = s.tenant_id
  and s.field = 'invite_link'
  and s.generation < t.link_made;

-- A gateway says how its tokens are, every few seconds: fault is what is wrong with their file, or null. The alert ends
-- when no gateway has had reason for it for a minute; one that ended with a fault raises it no more.
create function gateway.tokens_seen(p_fault text) returns void
language plpgsql security definer
set search_path = catalog, pg_temp
as $$
begin
    if p_fault is not null then
        perform raise_alert('tokens', null, 'a gateway works with tokens that its file does not have', p_fault);
    elsif exists (
        select from alert
        where cause = 'tokens'
          and resolved_at is null
          and last_at < clock_timestamp() - interval '1 minute'
    ) then
        perform resolve_alert('tokens');
    end if;
end
$$;
revoke execute on function gateway.tokens_seen from public;
grant execute on function gateway.tokens_seen to tenantry_gateway;

-- migrate:down
drop function gateway.tokens_seen;
drop trigger secret_newest_link on provisioner.secret;
drop function provisioner.forget_older_links;
create or replace function provisioner.want_link(p_tenant_id uuid) returns int
language sql
as $$
    update tenant
    set link_wanted = link_wanted + 1
    where tenant_id = p_tenant_id
    returning link_wanted
$$;
alter table provisioner.tenant drop column link_wanted_at;
