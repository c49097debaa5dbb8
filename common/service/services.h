/* The services there are: each has a login tenantry_NAME and a schema NAME in the catalog. The one list that `tenantry
 * init`, `doctor` and the local stack go by. Those whose program is not there yet have login and schema, empty. works:
 * takes events and has tables of its own; the gateway only reads and hands over. */
#pragma once

#define SERVICES(SERVICE)                                                                                              \
        /*      name         works */                                                                                  \
        SERVICE(gateway, false)                                                                                        \
        SERVICE(provisioner, true)                                                                                     \
        SERVICE(migrator, true)                                                                                        \
        SERVICE(billing, true)
