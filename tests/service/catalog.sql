-- What the example service brings into the catalog.
set check_function_bodies = off; -- they find saga and the others by the search path of their service
select durable.add_service('example');
select catalog.add_snapshot_topic('example.status.v1', 'example');
insert into catalog.activity (kind, service, first_step, gives_way) values ('greet', 'example', 'write', true);
create table example.greeting (tenant_id uuid primary key, words jsonb not null, reminded_at timestamptz);
create table example.note (event_id text primary key, body bytea not null);
grant select, insert, update on example.greeting, example.note to tenantry_example;

create function example.accept_event(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
declare
    v_tenant uuid := (p_data ->> 'tenant_id')::uuid;
    v_saga uuid := gen_random_uuid();
begin
    if p_event ->> 'type' = 'example.note.received.v1' then
        insert into note (event_id, body) values (p_event ->> 'id', decode(p_data ->> 'body_base64', 'base64'));
        return;
    end if;
    if (p_data ->> 'alone')::boolean then
        perform catalog.claim_take(v_tenant, 'greet', v_saga);
    end if;
    insert into saga (saga_id, tenant_id, kind, step, data, caused_by)
    values (v_saga, v_tenant, 'greet', 'write', jsonb_build_object('words', p_data -> 'words'), p_event ->> 'id');
    if p_data ? 'remind_after_s' then
        perform set_timer('remind', v_tenant::text,
            catalog.business_now() + (p_data ->> 'remind_after_s')::int * interval '1 second');
    end if;
    perform put_operation(p_event, v_tenant, 'greet', null);
end
$$;

create function example.timer_due(p_name text, p_key text, p_due_at timestamptz) returns void
language plpgsql
as $$
begin
    update greeting set reminded_at = p_due_at where tenant_id = p_key::uuid;
    perform catalog.put_snapshot('example.status.v1', p_key, jsonb_build_object('reminded', true));
end
$$;

create function example.saga_context(p_tenant_id uuid) returns jsonb
language sql
as $$ select '{}'::jsonb $$;

create function example.lock_tenant(p_tenant_id uuid) returns void
language sql
as $$ select $$;

create function example.saga_ended(p_saga_id uuid) returns void
language sql
as $$
    select catalog.claim_release(tenant_id, saga_id) from saga where saga_id = p_saga_id;
    update catalog.operation o
    set state = case s.status when 'done' then 'succeeded' else 'failed' end, finished_at = clock_timestamp()
    from saga s
    where s.saga_id = p_saga_id
      and o.operation_id = catalog.read_uuid(s.caused_by)
      and o.service = 'example'
$$;
