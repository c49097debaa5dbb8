/* IP addresses as values, without ports. An IPv4 address that came through an IPv6 socket is the IPv4 address. */
#pragma once

#include "common/base/macros.h"

#include <sys/socket.h>

#define ADDRESS_TEXT 48 /* room for the longest, with its NUL */

struct address {
        int family; /* AF_INET, AF_INET6; 0 = none */
        unsigned char bytes[16];
};

struct address address_of(const struct sockaddr *from);
/* Fills *ret, with port 0; returns its length. */
socklen_t address_to_socket(const struct address *address, struct sockaddr_storage *ret);
/* Without brackets and port. */
bool address_parse(const char *text, size_t length, struct address *ret);
void address_print(const struct address *address, char out[ADDRESS_TEXT]);
bool address_equal(const struct address *a, const struct address *b);
/* Whether its leading bits are those of network. */
bool address_within(const struct address *address, const struct address *network, unsigned bits);
/* The address that limits apply to: an IPv4 address itself, or the /64 of an IPv6 address, since one caller has all of
 * it. */
struct address address_site(const struct address *address);
