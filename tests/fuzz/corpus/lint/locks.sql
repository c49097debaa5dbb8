-- migrate:up
alter table t add column c uuid not null default gen_random_uuid() references u (a) on delete set null, add check (c > 0);
alter table t add constraint k check ((c is not null)) not valid;
alter table t validate constraint k;
alter table t alter c set not null, alter c drop default;
create unique index if not exists i on only t using gin (a, (lower(b)));
with x as (select 1) update only t set c = 1 where t.c is null;
-- migrate:down
drop index i;
truncate a, b;
delete from only c where true;
