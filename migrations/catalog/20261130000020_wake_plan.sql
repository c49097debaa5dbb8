-- Who is to be woken is found by indexes, and each tenant by its id: PostgreSQL 17 was seen to join with all of a fleet.
-- migrate:up
alter function provisioner.wake_some(int) set enable_hashjoin = off;
alter function provisioner.wake_some(int) set enable_mergejoin = off;
alter function provisioner.wake_some(int) set enable_seqscan = off;

-- migrate:down
-- Nothing: the programs of the release before work with this catalog.
