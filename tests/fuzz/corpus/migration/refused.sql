-- migrate:up transaction=false
x;
-- migrate:up
-- migrate:down
