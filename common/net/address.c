/* IP addresses as values: see address.h. */
#include "common/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const unsigned char MAPPED[12] = { [10] = 0xff, [11] = 0xff };

static struct address address_of_bytes(int family, const void *bytes)
{
        struct address address = { .family = family };

        if (family == AF_INET6 && memcmp(bytes, MAPPED, sizeof(MAPPED)) == 0)
                return address_of_bytes(AF_INET, (const unsigned char *)bytes + sizeof(MAPPED));
        memcpy(address.bytes, bytes, family == AF_INET ? 4 : 16);
        return address;
}

struct address address_of(const struct sockaddr *from)
{
        if (from->sa_family == AF_INET)
                return address_of_bytes(AF_INET, &((const struct sockaddr_in *)(const void *)from)->sin_addr);
        if (from->sa_family == AF_INET6)
                return address_of_bytes(AF_INET6, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr);
        return (struct address){ 0 };
}

socklen_t address_to_socket(const struct address *address, struct sockaddr_storage *ret)
{
        struct sockaddr_in *v4 = (void *)ret;
        struct sockaddr_in6 *v6 = (void *)ret;

        memset(ret, 0, sizeof(*ret));
        ret->ss_family = (sa_family_t)address->family;
        if (address->family == AF_INET) {
                memcpy(&v4->sin_addr, address->bytes, 4);
                return sizeof(*v4);
        }
        memcpy(&v6->sin6_addr, address->bytes, 16);
        return sizeof(*v6);
}

bool address_parse(const char *text, size_t length, struct address *ret)
{
        char copy[ADDRESS_TEXT];
        unsigned char bytes[16];
        int family = memchr(text, ':', length) ? AF_INET6 : AF_INET;

        if (length >= sizeof(copy))
                return false;
        memcpy(copy, text, length);
        copy[length] = '\0';
        if (strlen(copy) != length || inet_pton(family, copy, bytes) != 1)
                return false;
        *ret = address_of_bytes(family, bytes);
        return true;
}

void address_print(const struct address *address, char out[ADDRESS_TEXT])
{
        if (address->family == 0 || inet_ntop(address->family, address->bytes, out, ADDRESS_TEXT) == NULL)
                strcpy(out, "unknown");
}

bool address_equal(const struct address *a, const struct address *b)
{
        return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool address_within(const struct address *address, const struct address *network, unsigned bits)
{
        unsigned whole = bits / 8, rest = bits % 8;

        if (address->family == 0 || address->family != network->family ||
            memcmp(address->bytes, network->bytes, whole) != 0)
                return false;
        return rest == 0 || ((address->bytes[whole] ^ network->bytes[whole]) >> (8 - rest)) == 0;
}

struct address address_site(const struct address *address)
{
        struct address site = *address;

        if (site.family == AF_INET6)
                memset(site.bytes + 8, 0, 8);
        return site;
}
