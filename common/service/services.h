/* All services: each has a login tenantry_NAME and a schema NAME in the catalog. This is the only list, used by
 * `tenantry init`, `doctor` and the local stack. Services whose program does not exist yet have a login and an empty
 * schema. works: takes events and has its own tables; the gateway only reads and forwards. */
#pragma once

#define SERVICES(SERVICE)                                                                                              \
        /*      name         works */                                                                                  \
        SERVICE(gateway, false)                                                                                        \
        SERVICE(provisioner, true)                                                                                     \
        SERVICE(migrator, true)                                                                                        \
        SERVICE(billing, true)
