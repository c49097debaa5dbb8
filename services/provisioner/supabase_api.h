/* Calls to Supabase's Management API and to the Auth API of a project, as parts of steps. Each waits for its place in
 * the rate budget that all processes share; refusals are distinguished (quota, auth, billing, capacity, validation).
 * Source of the facts: Supabase's OpenAPI document of the Management API, and what real servers were seen to answer. */
#pragma once

#include "services/provisioner/activity.h"

struct supabase_call {
        const char *endpoint; /* names the budget: one per operation of the API */
        const char *method;
        char *path;   /* taken */
        json_t *body; /* taken; NULL = none */
        bool auth;    /* the project's Auth API instead of the Management API */
        bool covered; /* the previous call in this step took the turn for both */
};

/* Sends the call when its turn has come. `then` finds the answer in activity->reply_status (0 = no answer: whether it
 * was carried out is unknown) and activity->reply; err is set only for transport errors. Returns STEP_PENDING; a step
 * whose turn comes later is put down meanwhile and run again from its start, and this call is then sent at once. */
enum step_result supabase_call(struct saga *saga, const struct supabase_call *call, saga_then then);

/* An answer, for any caller. */
struct supabase_reply {
        int status;         /* 0 = none */
        const json_t *body; /* NULL if it is not JSON */
        bool from_auth;     /* the project's own Auth answered, not the provider */
};

/* The error for an unsuccessful answer. Fills *err. */
void supabase_reply_error(const struct supabase_reply *reply, struct err *err);
/* After a 429: nobody calls the endpoint for as long as the answer demands. Fills *err. */
void supabase_limited(struct provisioner *provisioner, const char *endpoint, const struct http_reply *reply,
                      struct err *err);
/* The error for an answer, after `then` has handled the statuses it knows. Fills *err. */
void supabase_error(const struct activity *activity, struct err *err);
/* The step is retried, fails, or is held if our token is refused: then everybody waits. */
enum step_result supabase_refuse(struct saga *saga);
/* The same for an error from supabase_error that the caller has checked. */
enum step_result supabase_give_up(struct saga *saga, const struct err *err);
/* The same, but "not found" is not final: right after creation, some parts of a project do not exist for a while. */
enum step_result supabase_refuse_for_now(struct saga *saga);
/* The service key was read again: the step starts again with it. */
enum step_result supabase_key_renewed(struct saga *saga);
/* The project's ref, or NULL while none is known. */
const char *supabase_ref(const struct activity *activity);
/* "BASE/path" of the project's Auth API; the caller frees. */
char *supabase_auth_url(const struct activity *activity, const char *path);
