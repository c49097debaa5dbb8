/* What the gateway must know of an event of Stripe's: see stripe_envelope.h. */
#include "common/contracts/stripe_envelope.h"

#include "common/base/json_find.h"
#include "common/base/macros.h"

#include <string.h>

/* An id, or the object which stands in its place where Stripe was asked to expand it. */
enum {
        ID,
        LIVEMODE,
        ACCOUNT,
        ACCOUNT_ID,
        DATA,
        OBJECT,
        OBJECT_ID,
        OBJECT_KIND,
        CUSTOMER,
        CUSTOMER_ID,
        RELATED,
        RELATED_ID,
        PLACES,
};

static const struct json_wanted ACCOUNT_MEMBERS[] = { { .name = "id", .place = ACCOUNT_ID }, { 0 } };
static const struct json_wanted CUSTOMER_MEMBERS[] = { { .name = "id", .place = CUSTOMER_ID }, { 0 } };
static const struct json_wanted RELATED_MEMBERS[] = { { .name = "id", .place = RELATED_ID }, { 0 } };
static const struct json_wanted OBJECT_MEMBERS[] = {
        { .name = "id", .place = OBJECT_ID },
        { .name = "object", .place = OBJECT_KIND },
        { .name = "customer", .members = CUSTOMER_MEMBERS, .place = CUSTOMER },
        { 0 },
};
static const struct json_wanted DATA_MEMBERS[] = {
        { .name = "object", .members = OBJECT_MEMBERS, .place = OBJECT },
        { 0 },
};
static const struct json_wanted EVENT_MEMBERS[] = {
        { .name = "id", .place = ID },
        { .name = "livemode", .place = LIVEMODE },
        { .name = "account", .members = ACCOUNT_MEMBERS, .place = ACCOUNT },
        { .name = "data", .members = DATA_MEMBERS, .place = DATA },
        { .name = "related_object", .members = RELATED_MEMBERS, .place = RELATED },
        { 0 },
};

static bool envelope_take(char ret[STRIPE_ID_MOST + 1], const struct json_found *found)
{
        if (found->type != JSON_FOUND_TEXT || !stripe_is_name(found->text, found->length, STRIPE_ID_MOST))
                return false;
        memcpy(ret, found->text, found->length);
        ret[found->length] = '\0';
        return true;
}

static bool envelope_is_text(const struct json_found *found, const char *text)
{
        return found->type == JSON_FOUND_TEXT && found->length == strlen(text) &&
               memcmp(found->text, text, found->length) == 0;
}

static void envelope_take_customer(struct stripe_envelope *ret, const struct json_found *found)
{
        bool is_customer = envelope_is_text(&found[OBJECT_KIND], "customer");

        if (!is_customer &&
            (envelope_take(ret->customer, &found[CUSTOMER]) || envelope_take(ret->customer, &found[CUSTOMER_ID])))
                return;
        if (!envelope_take(ret->customer, &found[OBJECT]) && !envelope_take(ret->customer, &found[OBJECT_ID]) &&
            !envelope_take(ret->customer, &found[RELATED]) && !envelope_take(ret->customer, &found[RELATED_ID]))
                strcpy(ret->customer, "-");
}

int stripe_envelope_read(const char *body, size_t length, struct stripe_envelope *ret, struct err *err)
{
        struct json_found found[PLACES] = { 0 };
        auto_json *tree = NULL;

        if (json_find(body, length, EVENT_MEMBERS, found, &tree, err) < 0)
                return -ERR_INPUT;
        if (!envelope_take(ret->id, &found[ID]) || found[LIVEMODE].type < JSON_FOUND_TRUE)
                return err_set(err, ERR_INPUT, "not_an_event",
                               "this is signed, but no event: id or livemode is missing");
        ret->livemode = found[LIVEMODE].type == JSON_FOUND_TRUE;
        if (!envelope_take(ret->account, &found[ACCOUNT]) && !envelope_take(ret->account, &found[ACCOUNT_ID]))
                strcpy(ret->account, "-");
        envelope_take_customer(ret, found);
        return 0;
}
