-- migrate:up transaction:false
create index concurrently i on a (b);
-- migrate:down transaction:false
drop index concurrently i;
