-- tenantry:allow drop-table nobody reads it
-- tenantry:allow nothing
-- migrate:up
drop table t, app."U";
alter table if exists only t drop column c, rename constraint a to b, alter c set data type text using c::text;
alter type mood rename value 'a' to 'b';
revoke all on table t from x, y;
-- migrate:down
alter table t add c int not null;
