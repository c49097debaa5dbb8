/* Signed webhooks, each another event: the body comes from a file, in which sixteen zeros stand for a number of the
 * event's own, and ten ones for the second in which it is sent. */
#pragma once

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WEBHOOK_BODY_LIMIT 8192
#define WEBHOOK_MARKS      64
#define WEBHOOK_NUMBER     "0000000000000000"
#define WEBHOOK_SECOND     "1111111111"
#define WEBHOOK_MAC_BYTES  32

struct webhook {
        char body[WEBHOOK_BODY_LIMIT + 1];
        size_t length, number_count, second_count;
        size_t numbers[WEBHOOK_MARKS], seconds[WEBHOOK_MARKS];
        EVP_MAC_CTX *mac;
};

static inline size_t webhook_find(const char *body, const char *mark, size_t *ret)
{
        size_t count = 0;

        for (const char *at = body; count < WEBHOOK_MARKS && (at = strstr(at, mark)) != NULL; at += strlen(mark))
                ret[count++] = (size_t)(at - body);
        return count;
}

/* False if the file or the secret is of no use. */
static inline bool webhook_load(struct webhook *webhook, const char *path, const char *secret)
{
        OSSL_PARAM digest[] = { OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 6),
                                OSSL_PARAM_END };
        EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        FILE *file = fopen(path, "r");

        if (hmac == NULL || file == NULL)
                return false;
        webhook->length = fread(webhook->body, 1, WEBHOOK_BODY_LIMIT, file);
        fclose(file);
        webhook->number_count = webhook_find(webhook->body, WEBHOOK_NUMBER, webhook->numbers);
        webhook->second_count = webhook_find(webhook->body, WEBHOOK_SECOND, webhook->seconds);
        webhook->mac = EVP_MAC_CTX_new(hmac);
        EVP_MAC_free(hmac);
        return webhook->number_count > 0 && webhook->mac != NULL &&
               EVP_MAC_init(webhook->mac, (const unsigned char *)secret, strlen(secret), digest) == 1;
}

static inline void webhook_number(const struct webhook *webhook, char *body, uint64_t number, const char *second)
{
        char digits[sizeof(WEBHOOK_NUMBER)];

        snprintf(digits, sizeof(digits), "%016llx", (unsigned long long)number);
        for (size_t i = 0; i < webhook->number_count; i++)
                memcpy(body + webhook->numbers[i], digits, sizeof(digits) - 1);
        for (size_t i = 0; i < webhook->second_count; i++)
                memcpy(body + webhook->seconds[i], second, sizeof(WEBHOOK_SECOND) - 1);
}

/* The MAC of second, dot and body, in hexadecimal digits; the key is kept from the first time. */
static inline bool webhook_sign(struct webhook *webhook, const char *body, const char *second, char *ret_hex)
{
        unsigned char mac[WEBHOOK_MAC_BYTES];
        size_t length;

        if (EVP_MAC_init(webhook->mac, NULL, 0, NULL) != 1 ||
            EVP_MAC_update(webhook->mac, (const unsigned char *)second, strlen(second)) != 1 ||
            EVP_MAC_update(webhook->mac, (const unsigned char *)".", 1) != 1 ||
            EVP_MAC_update(webhook->mac, (const unsigned char *)body, webhook->length) != 1 ||
            EVP_MAC_final(webhook->mac, mac, &length, sizeof(mac)) != 1)
                return false;
        for (size_t i = 0; i < length; i++) {
                ret_hex[2 * i] = "0123456789abcdef"[mac[i] >> 4];
                ret_hex[2 * i + 1] = "0123456789abcdef"[mac[i] & 15];
        }
        ret_hex[2 * length] = '\0';
        return true;
}

/* Writes a whole request; text has room for WEBHOOK_BODY_LIMIT bytes beside the head. Returns its length, 0 if it could
 * not be signed. */
static inline size_t webhook_request(struct webhook *webhook, char *text, uint64_t number, long long now)
{
        static const char head[] = "POST /api/webhooks/stripe HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                   "Content-Type: application/json; charset=utf-8\r\nContent-Length: %zu\r\n"
                                   "Stripe-Signature: t=%s,v1=%s\r\n\r\n";
        char body[WEBHOOK_BODY_LIMIT + 1], second[24], hex[2 * WEBHOOK_MAC_BYTES + 1];
        size_t length;

        snprintf(second, sizeof(second), "%010lld", now);
        memcpy(body, webhook->body, webhook->length);
        webhook_number(webhook, body, number, second);
        if (!webhook_sign(webhook, body, second, hex))
                return 0;
        length = (size_t)sprintf(text, head, webhook->length, second, hex);
        memcpy(text + length, body, webhook->length);
        return length + webhook->length;
}
