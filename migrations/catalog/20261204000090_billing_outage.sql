-- A command that is read again after the catalog was restored asks Stripe under the same key as the first time. Within a day Stripe
-- then knows that it was carried out, and does nothing: what somebody did in the portal since would be undone, and an upgrade
-- charged twice.
-- migrate:up
set local check_function_bodies = off;

alter table billing.request add column forgotten int not null default 0; -- how often its keys were of no use any more

-- Only of calls of which the answer tells nothing that is gone on with, and of commands whose ids nobody else has.
create function billing.call_key(p_request billing.request, p_name text) returns text
language sql volatile
as $$
    select 'tenantry-' || case
        when p_name in ('change', 'cancel', 'resume') and catalog.read_uuid(p_request.caused_by) is not null
            then md5(concat_ws(' ', p_request.tenant_id, p_request.kind, p_request.caused_by, p_name, p_request.forgotten))::uuid
        else gen_random_uuid()
    end
$$;

-- As before; the key follows from the command; and void: see void_call; then it is not to be sent.
drop function billing.freeze_call;
create function billing.freeze_call(p_saga_id uuid, p_fence bigint, p_name text, p_method text, p_path text, p_params jsonb)
returns table (method text, path text, params jsonb, key text, is_stale boolean, void text)
language plpgsql
as $$
declare
    v_void text;
begin
    perform hold_saga(p_saga_id, p_fence);
    v_void := void_call(p_saga_id);
    if v_void is not null then
        return query select p_method, p_path, p_params, null::text, false, v_void;
        return;
    end if;
    delete from stripe_call c
    where c.saga_id = p_saga_id
      and c.name = p_name
      and (c.is_spent or c.frozen_at < catalog.business_now() - interval '23 hours');
    if found then
        update request set forgotten = forgotten + 1 where saga_id = p_saga_id;
        return query select p_method, p_path, p_params, null::text, true, null::text;
        return;
    end if;
    insert into stripe_call as c (saga_id, name, key, method, path, params, frozen_at)
    select p_saga_id, p_name, call_key(r, p_name), p_method, p_path, p_params, catalog.business_now()
    from request r
    where r.saga_id = p_saga_id
    on conflict (saga_id, name) do nothing;
    return query
        select c.method, c.path, c.params, c.key, false, null::text
        from stripe_call c
        where c.saga_id = p_saga_id and c.name = p_name;
end
$$;

create or replace function billing.forget_calls(p_saga_id uuid, p_fence bigint) returns void
language plpgsql
as $$
begin
    perform hold_saga(p_saga_id, p_fence);
    update request set forgotten = forgotten + 1 where saga_id = p_saga_id;
    delete from stripe_call where saga_id = p_saga_id;
end
$$;

grant execute on all functions in schema billing to tenantry_billing;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
