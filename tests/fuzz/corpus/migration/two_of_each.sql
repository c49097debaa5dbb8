-- migrate:up
create table a (id int);
-- migrate:down
drop table a
-- migrate:up transaction:false
create index concurrently a_id on a (id);
-- migrate:down transaction:false

