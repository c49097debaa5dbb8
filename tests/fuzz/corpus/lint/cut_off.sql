-- migrate:up
alter table t add column c uuid not null default gen_random_uuid() references u (a) on delete set null, add check (c > 0);
alter table t add constraint k check ((c is not null)) not valid;
alter table t validate constraint k;
alter table t [lter c set not null, alter -- migra





c drop default;
create unique index if not exist lower only t using gin (a, (lower












andom(b)));
wi{h x as (select 0) update only t set c = 1 whe
re 


gt.c is null;ra
-- migrate:down
drop index