-- migrate:up
create table a (b int generated always as identity);
-- migrate:down
-- migrate:up transaction:false
do language plpgsql $x$ declare c int; begin if c then alter table t drop column c; else drop trigger x on t; end if; end$x$;
begin; create trigger x after insert on t execute function f(); commit; reindex (concurrently) table t;
-- migrate:down transaction:false
drop table a;
