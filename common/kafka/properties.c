/* KAFKA_PROPERTIES: see properties.h. */
#include "common/kafka/properties.h"

#include "common/base/memory.h"
#include "common/base/spelling.h"

#include <string.h>

#define SCRAM_MENDED 0x020601ff /* librdkafka 2.6.1 */

/* Up to the next semicolon; "\\;" is part of the value. */
static char *properties_take_entry(char **rest)
{
        char *entry = *rest, *out = entry, *in = entry;

        for (; *in != '\0' && *in != ';'; in++) {
                if (in[0] == '\\' && in[1] == ';')
                        in++;
                *out++ = *in;
        }
        *rest = *in == ';' ? in + 1 : in;
        *out = '\0';
        return entry;
}

/* A property whose value may be a secret with a semicolon in it: if that was not written "\\;", the rest looks like the
 * next property. */
static bool property_holds_secret(const char *name)
{
        return strstr(name, "password") != NULL || strstr(name, "secret") != NULL || strstr(name, ".pem") != NULL ||
               strstr(name, "oauthbearer") != NULL;
}

/* The property most likely meant; "" if none is similar. */
static void property_find_near(rd_kafka_conf_t *conf, const char *name, char ret[64])
{
        size_t count;
        const char **dump = rd_kafka_conf_dump(conf, &count);

        *ret = '\0';
        for (size_t i = 0; i + 1 < count && *ret == '\0'; i += 2)
                if (spelling_is_near(name, dump[i]))
                        snprintf(ret, 64, "%s", dump[i]);
        rd_kafka_conf_dump_free(dump, count);
}

static int property_unknown(rd_kafka_conf_t *conf, const char *name, int number, bool may_be_secret, struct err *err)
{
        char near[64];

        property_find_near(conf, name, near);
        if (*near != '\0')
                return err_field(err, "KAFKA_PROPERTIES", "entry %d is not a librdkafka property; did you mean %s?",
                                 number, near);
        if (may_be_secret)
                return err_field(err, "KAFKA_PROPERTIES",
                                 "entry %d is not a librdkafka property (a semicolon inside a value is written \\;)",
                                 number);
        return err_field(err, "KAFKA_PROPERTIES", "librdkafka has no property %.80s (entry %d)", name, number);
}

/* previous: the name of the previous entry, or NULL. */
static int property_set(rd_kafka_conf_t *conf, char *entry, int number, const char *previous, struct err *err)
{
        char *equals = strchr(entry, '='), reason[256];
        rd_kafka_conf_res_t result;

        if (*entry == '\0')
                return 0;
        if (equals == NULL)
                return err_field(err, "KAFKA_PROPERTIES",
                                 "entry %d is not name=value (a semicolon inside a value is written \\;)", number);
        *equals = '\0';
        result = rd_kafka_conf_set(conf, entry, equals + 1, reason, sizeof(reason));
        if (result == RD_KAFKA_CONF_UNKNOWN)
                return property_unknown(conf, entry, number, previous != NULL && property_holds_secret(previous), err);
        if (result != RD_KAFKA_CONF_OK)
                return err_field(err, "KAFKA_PROPERTIES", "librdkafka does not accept the value of %.80s (entry %d)",
                                 entry, number);
        return 0;
}

int kafka_properties_set(rd_kafka_conf_t *conf, const char *properties, struct err *err)
{
        size_t length = properties ? strlen(properties) : 0;
        char *copy = mem_copy_text(properties), *rest = copy, *previous = NULL;
        int number = 0, rc = 0;

        while (rc == 0 && rest != NULL && *rest != '\0') {
                char *entry = properties_take_entry(&rest);

                rc = property_set(conf, entry, ++number, previous, err);
                previous = entry;
        }
        if (copy != NULL)
                explicit_bzero(copy, length);
        free(copy);
        return rc;
}

static bool property_begins(const rd_kafka_conf_t *conf, const char *name, const char *beginning)
{
        char value[256] = "";
        size_t size = sizeof(value);

        return rd_kafka_conf_get(conf, name, value, &size) == RD_KAFKA_CONF_OK &&
               strncasecmp(value, beginning, strlen(beginning)) == 0;
}

/* Older ones send the client's nonce twice; Kafka 4 checks it. */
char *kafka_properties_advice(const rd_kafka_conf_t *conf)
{
        if (rd_kafka_version() >= SCRAM_MENDED || !property_begins(conf, "security.protocol", "sasl_") ||
            !property_begins(conf, "sasl.mechanisms", "SCRAM-"))
                return NULL;
        return mem_printf(
                "SCRAM of librdkafka %s is refused by Kafka 4 and later (it needs 2.6.1): use PLAIN over TLS, a "
                "client certificate, or OAUTHBEARER",
                rd_kafka_version_str());
}
