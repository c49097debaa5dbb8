-- Functions that a service's session and a trigger both call, under two search paths, were parsed and planned anew at each change
-- from the one to the other: two thirds of the processor's time of an event of Stripe's. There is one path now, the session's.
-- migrate:up
alter function billing.follow_tenant set search_path = billing, durable, catalog, pg_temp;
alter function billing.follow_object set search_path = billing, durable, catalog, pg_temp;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
