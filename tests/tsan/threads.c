/* librdkafka starts its threads with C11's thrd_create, which ThreadSanitizer does not know, and crashes on. Linked
 * into the tsan variant only, this starts them as POSIX threads, which they are in glibc anyway. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

struct start {
        thrd_start_t run;
        void *argument;
};

static void *run_thread(void *given)
{
        struct start start = *(struct start *)given;

        free(given);
        return (void *)(intptr_t)start.run(start.argument);
}

int thrd_create(thrd_t *thread, thrd_start_t run, void *argument)
{
        struct start *start = malloc(sizeof(*start));

        if (start == NULL)
                return thrd_nomem;
        *start = (struct start){ run, argument };
        return pthread_create(thread, NULL, run_thread, start) == 0 ? thrd_success : thrd_error;
}

int thrd_join(thrd_t thread, int *result)
{
        void *value;

        if (pthread_join(thread, &value) != 0)
                return thrd_error;
        if (result != NULL)
                *result = (int)(intptr_t)value;
        return thrd_success;
}
