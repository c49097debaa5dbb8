/* Preloaded into `tenantry migrate import`: just before its second file gets its name, somebody else's file has it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
        int (*real)(int, const char *, int, const char *, int) =
                (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
        static int calls;

        if (++calls == 2) {
                int fd = openat(to_directory, to, O_WRONLY | O_CREAT | O_EXCL, 0666);

                if (fd < 0 || write(fd, "rival", 5) != 5 || close(fd) != 0)
                        abort();
        }
        return real(from_directory, from, to_directory, to, flags);
}
