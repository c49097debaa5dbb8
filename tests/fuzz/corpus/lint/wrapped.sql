- add check (c > 0);
alter table t add constraint k check ((c is not null)) not valid;
alter table t validate constraint k;
alter table t alter c set not n drop-table nobody-- migratE:up
alter table t add column c uuid not nul-- migrate:up
crevoketable a (b int generated always as identity);
-- migrate:down
-- migrate:up transaction:false
do language pll  check (c >