/* `tenantry stripe setup`: the webhook endpoint, and its secret, which Stripe shows once. The secret is on disk before
 * anything else is done; then its fingerprint goes into the endpoint's metadata. An endpoint of ours without one is one
 * whose secret nobody has: within a day, Stripe repeats the answer in which it was. */
#include "cli/secret_file.h"
#include "cli/stripe.h"
#include "common/base/failpoint.h"
#include "common/base/memory.h"

#include <string.h>

/* Stripe repeats an answer for a day; some of it is left for us. */
#define REPEATED_S (23 * 3600)

struct endpoint {
        struct stripe_session *session;
        struct stripe_report *report;
        const char *secret_file; /* NULL = none was named */
        bool roll;
        json_t *at; /* those at our address, newest first */
};

static int endpoint_trouble(struct endpoint *endpoint, const char *name, const char *what)
{
        stripe_tell(endpoint->report, "trouble", "endpoint", name, what);
        return EXIT_GOOD;
}

/* replaces: the id of the endpoint whose place it takes, or NULL. */
static json_t *endpoint_wanted(const struct endpoint *endpoint, const char *replaces)
{
        json_t *metadata = json_pack("{s:s}", STRIPE_MARK, STRIPE_MARK_MADE);

        if (replaces != NULL)
                json_object_set_new(metadata, STRIPE_REPLACES, json_string(replaces));
        return json_pack("{s:s, s:o, s:s, s:s, s:o}", "url", endpoint->session->url, "enabled_events",
                         stripe_wanted_events(), "api_version", STRIPE_VERSION, "description", "Tenantry", "metadata",
                         metadata);
}

static const char *endpoint_metadata(const json_t *object, const char *name)
{
        return json_text(json_object_get(object, "metadata"), name);
}

/* What of the secret is kept at Stripe, once it is safe. */
static int endpoint_mark_safe(struct endpoint *endpoint, const json_t *object, const char *secret)
{
        auto_free char *fingerprint = stripe_fingerprint(secret), *path = stripe_path(STRIPE_ENDPOINTS, object);
        struct err err;

        if (stripe_change(endpoint->session, path, json_pack("{s:{s:s}}", "metadata", STRIPE_FINGERPRINT, fingerprint),
                          NULL, &err) < 0)
                return stripe_complain(&err, "the endpoint's metadata");
        return EXIT_GOOD;
}

static void endpoint_tell_secret(struct endpoint *endpoint, const char *result)
{
        auto_free char *what =
                mem_printf("%s: give it to each gateway as STRIPE_WEBHOOK_SECRET_FILE%s, and restart them",
                           endpoint->secret_file, endpoint->session->live ? ", with STRIPE_LIVEMODE=1" : "");

        stripe_tell(endpoint->report, result, "secret", "of the endpoint", what);
}

/* Nothing comes between the answer and the file. */
static int endpoint_save(struct endpoint *endpoint, struct secret_file *file, const json_t *object)
{
        auto_secret char *secret = mem_copy_text(json_text(object, "secret"));
        struct err err;
        int status;

        FAILPOINT(setup_after_create, NULL);
        if (secret == NULL)
                return cli_fail(EXIT_FAILED, "Stripe has made the endpoint %s, but shows no secret of it",
                                json_text(object, "id") ?: "?");
        if (secret_file_write(file, secret, &err) < 0)
                return cli_fail(EXIT_FAILED,
                                "the endpoint %s is made, but its secret is nowhere: %s; run this again within a day "
                                "with a --secret-file that can be written",
                                json_text(object, "id") ?: "?", err.message);
        FAILPOINT(setup_after_secret, NULL);
        status = endpoint_mark_safe(endpoint, object, secret);
        if (status == EXIT_GOOD)
                endpoint_tell_secret(endpoint, "made");
        return status;
}

/* Once the secret of its successor is safe. */
static int endpoint_remove(struct endpoint *endpoint, const char *id)
{
        const json_t *each;
        struct err err;
        size_t i;

        json_array_foreach (endpoint->at, i, each) {
                auto_free char *path = stripe_path(STRIPE_ENDPOINTS, each);

                if (id == NULL || strcmp(json_text(each, "id") ?: "", id) != 0)
                        continue;
                if (stripe_delete(endpoint->session, path, &err) < 0)
                        return stripe_complain(&err, id);
                stripe_tell(endpoint->report, "removed", "endpoint", id, "another one has taken its place");
        }
        return EXIT_GOOD;
}

static int endpoint_make(struct endpoint *endpoint, const char *replaces)
{
        auto_json *wanted = endpoint_wanted(endpoint, replaces), *made = NULL;
        struct secret_file file;
        struct err err;
        int status;

        if (endpoint->secret_file == NULL)
                return cli_fail(EXIT_USAGE,
                                "the webhook endpoint is to be made, and its secret is shown once: name the file for "
                                "it with --secret-file FILE");
        if (secret_file_open(&file, endpoint->secret_file, endpoint->roll, &err) < 0)
                return cli_fail(EXIT_USAGE, "--secret-file: %s", err.message);
        if (stripe_create(endpoint->session, STRIPE_ENDPOINTS, json_incref(wanted), &made, &err) < 0)
                status = stripe_complain(&err, "the webhook endpoint");
        else
                status = endpoint_save(endpoint, &file, made);
        secret_file_close(&file);
        if (status != EXIT_GOOD)
                return status;
        stripe_tell(endpoint->report, "made", "endpoint", json_text(made, "id") ?: "?", endpoint->session->url);
        return endpoint_remove(endpoint, replaces);
}

/* Under which of our keys an endpoint was made; -1 if under none that this program would use. */
static int endpoint_generation(const json_t *object, const json_t *wanted)
{
        const char *key = endpoint_metadata(object, STRIPE_REQUEST);

        for (int n = 0; key != NULL && n < STRIPE_GENERATIONS; n++) {
                auto_free char *each = stripe_key(STRIPE_ENDPOINTS, wanted, n);

                if (strcmp(each, key) == 0)
                        return n;
        }
        return -1;
}

/* A run was killed, or lost the answer, before the secret was safe: Stripe is asked for its answer again. *ret is NULL
 * where it no longer has it. */
static int endpoint_recall(struct endpoint *endpoint, const json_t *object, json_t **ret, struct err *err)
{
        auto_json *wanted = endpoint_wanted(endpoint, endpoint_metadata(object, STRIPE_REPLACES)), *made = NULL;
        int n = endpoint_generation(object, wanted), rc;
        auto_free char *path = NULL;
        bool replayed = false;

        *ret = NULL;
        if (n < 0 || json_number(object, "created", 0) + REPEATED_S < endpoint->session->date_s)
                return 0;
        rc = stripe_create_as(endpoint->session, STRIPE_ENDPOINTS, wanted, n, &made, &replayed, err);
        if (rc < 0)
                return replayed ? 0 : rc;
        if (strcmp(json_text(made, "id") ?: "", json_text(object, "id") ?: "") == 0) {
                *ret = TAKE_PTR(made);
                return 0;
        }
        path = stripe_path(STRIPE_ENDPOINTS, made); /* it made another one after all */
        return replayed ? 0 : stripe_delete(endpoint->session, path, err);
}

#define SECRET_LOST                                                                                                    \
        "nobody has its secret: with --roll and --secret-file it is replaced; or copy the secret from Stripe's "       \
        "dashboard, and ignore this"

static int endpoint_save_recalled(struct endpoint *endpoint, const json_t *object)
{
        const char *secret = json_text(object, "secret") ?: "";
        struct secret_file file;
        struct err err;
        int status;

        if (secret_file_has(endpoint->secret_file, secret)) {
                status = endpoint_mark_safe(endpoint, object, secret);
                if (status == EXIT_GOOD)
                        endpoint_tell_secret(endpoint, "kept");
                return status;
        }
        if (secret_file_open(&file, endpoint->secret_file, endpoint->roll, &err) < 0)
                return cli_fail(EXIT_USAGE, "--secret-file: %s", err.message);
        status = endpoint_save(endpoint, &file, object);
        secret_file_close(&file);
        return status;
}

/* An endpoint of ours whose secret is not known to be safe. */
static int endpoint_find_secret(struct endpoint *endpoint, const json_t *object)
{
        auto_json *recalled = NULL;
        const char *id = json_text(object, "id") ?: "?";
        struct err err;

        if (endpoint->secret_file == NULL)
                return endpoint_trouble(endpoint, id,
                                        "its secret was never written to a file: name one with --secret-file FILE");
        if (endpoint_recall(endpoint, object, &recalled, &err) < 0)
                return stripe_complain(&err, id);
        if (recalled != NULL)
                return endpoint_save_recalled(endpoint, recalled);
        if (endpoint->roll)
                return endpoint_make(endpoint, id);
        return endpoint_trouble(endpoint, id, SECRET_LOST);
}

static int endpoint_change(struct endpoint *endpoint, const json_t *object)
{
        auto_json *wanted = json_pack("{s:o, s:s}", "enabled_events", stripe_wanted_events(), "status", "enabled");
        auto_free char *difference = NULL, *path = stripe_path(STRIPE_ENDPOINTS, object);
        struct err err;

        if (!stripe_is_ours(object))
                json_object_set_new(wanted, "metadata", json_pack("{s:s}", STRIPE_MARK, STRIPE_MARK_TAKEN));
        difference = stripe_difference(wanted, object);
        if (difference == NULL) {
                stripe_tell(endpoint->report, "kept", "endpoint", json_text(object, "id") ?: "?",
                            endpoint->session->url);
                return EXIT_GOOD;
        }
        json_object_del(wanted, "status");
        json_object_set_new(wanted, "disabled", json_false());
        if (stripe_change(endpoint->session, path, json_incref(wanted), NULL, &err) < 0)
                return stripe_complain(&err, json_text(object, "id") ?: "?");
        stripe_tell(endpoint->report, "changed", "endpoint", json_text(object, "id") ?: "?", difference);
        return EXIT_GOOD;
}

static int endpoint_keep(struct endpoint *endpoint, const json_t *object)
{
        const char *mark = endpoint_metadata(object, STRIPE_MARK);
        bool made = mark != NULL && strcmp(mark, STRIPE_MARK_MADE) == 0;
        int status = endpoint_change(endpoint, object);

        if (strcmp(json_text(object, "api_version") ?: "", STRIPE_VERSION) != 0)
                endpoint_trouble(endpoint, json_text(object, "id") ?: "?",
                                 "it has another API version, which Stripe cannot change: with --roll and "
                                 "--secret-file it is replaced");
        if (status == EXIT_GOOD && made && endpoint_metadata(object, STRIPE_FINGERPRINT) == NULL)
                status = endpoint_find_secret(endpoint, object);
        if (status == EXIT_GOOD)
                status = endpoint_remove(endpoint, endpoint_metadata(object, STRIPE_REPLACES));
        return status;
}

/* Rolled on purpose; but a roll that was cut off is brought to its end. */
static int endpoint_decide(struct endpoint *endpoint)
{
        const json_t *object = stripe_endpoint_in_use(endpoint->at);
        const char *mark = endpoint_metadata(object, STRIPE_MARK);
        bool unfinished = mark != NULL && strcmp(mark, STRIPE_MARK_MADE) == 0 &&
                          endpoint_metadata(object, STRIPE_FINGERPRINT) == NULL;

        if (object == NULL)
                return endpoint_make(endpoint, NULL);
        if (endpoint->roll && !unfinished)
                return endpoint_make(endpoint, json_text(object, "id"));
        return endpoint_keep(endpoint, object);
}

int stripe_set_up_endpoint(struct stripe_session *session, struct stripe_report *report, const char *secret_file,
                           bool roll)
{
        struct endpoint endpoint = { .session = session, .report = report, .secret_file = secret_file, .roll = roll };
        auto_json *all = NULL, *at = NULL;
        struct err err;

        if (stripe_list(session, STRIPE_ENDPOINTS, NULL, &all, &err) < 0)
                return stripe_complain(&err, "the webhook endpoints");
        at = endpoint.at = stripe_endpoints_at(all, session->url);
        return endpoint_decide(&endpoint);
}
