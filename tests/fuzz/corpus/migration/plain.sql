-- why
-- migrate:up
create table a (b text);
create function f() returns int language sql as $$ select 1; $$;

-- migrate:down
drop table a;
