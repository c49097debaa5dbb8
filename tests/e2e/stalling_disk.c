/* Preloaded into a service: fsync takes as long as STALLING_DISK_SECONDS says, once, if the file STALLING_DISK is
 * there. The file is gone when it begins. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fsync(int fd)
{
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
        const char *armed = getenv("STALLING_DISK"), *seconds = getenv("STALLING_DISK_SECONDS");

        if (armed != NULL && seconds != NULL && unlink(armed) == 0) {
                struct timespec pause = { .tv_sec = atoi(seconds) };

                while (nanosleep(&pause, &pause) != 0)
                        ;
        }
        return real(fd);
}
