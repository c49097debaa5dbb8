-- What the example service brings into the catalog.
set check_function_bodies = off; -- they find saga and the others by the search path of their service
select durable.add_service('example');
insert into catalog.activity (kind, service, first_step) values ('greet', 'example', 'write');
create table example.greeting (tenant_id uuid primary key, words jsonb not null);
grant select, insert on example.greeting to tenantry_example;

create function example.accept_event(p_event jsonb, p_data jsonb) returns void
language plpgsql
as $$
begin
    insert into saga (tenant_id, kind, step, data, caused_by)
    values ((p_data ->> 'tenant_id')::uuid, 'greet', 'write', jsonb_build_object('words', p_data -> 'words'), p_event ->> 'id');
    perform put_operation(p_event, (p_data ->> 'tenant_id')::uuid, 'greet', null);
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
    update catalog.operation o
    set state = case s.status when 'done' then 'succeeded' else 'failed' end, finished_at = clock_timestamp()
    from saga s
    where s.saga_id = p_saga_id
      and o.operation_id = catalog.read_uuid(s.caused_by)
      and o.service = 'example'
$$;
