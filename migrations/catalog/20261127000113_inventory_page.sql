-- The inventory is read in pages, what is not in order first.
-- migrate:up
create index inventory_page on provisioner.inventory ((verdict = 'ours'), driver, server, name);

-- migrate:down
drop index provisioner.inventory_page;
