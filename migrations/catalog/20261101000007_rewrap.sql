-- Key rotation: secrets sealed with another key than the primary one are found here and sealed anew by the provisioner.
-- migrate:up
set local check_function_bodies = off;

create function provisioner.secrets_to_rewrap(p_ring text, p_primary text, p_limit int)
returns table (tenant_id uuid, field text, generation int, sealed text)
language sql
as $$
    select tenant_id, field, generation, sealed
    from secret
    where ring = p_ring
      and split_part(sealed, '.', 1) <> p_primary
    order by random() -- those that do not open must not hold up the others
    limit p_limit
$$;

-- Only over the text that was read: whoever else has sealed it anew meanwhile was right too.
create function provisioner.rewrapped(p_tenant_id uuid, p_field text, p_generation int, p_old text, p_new text) returns void
language sql
as $$
    update secret
    set sealed = p_new
    where tenant_id = p_tenant_id
      and field = p_field
      and generation = p_generation
      and sealed = p_old
$$;

-- How many secrets each key still holds: when an old key holds none, it can be dropped.
create view gateway.key_usage as
select ring, split_part(sealed, '.', 1) as key_id, count(*) as secrets
from provisioner.secret
group by 1, 2;
grant select on gateway.key_usage to tenantry_gateway;

-- migrate:down
drop view gateway.key_usage;
drop function provisioner.secrets_to_rewrap, provisioner.rewrapped;
