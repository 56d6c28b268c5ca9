/* A disk whose next sync fails, once: while the file that CLAVIGER_FAIL_ONCE names exists, the first sync of a file removes
 * it and answers EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int told(void) {
    const char *flag = getenv("CLAVIGER_FAIL_ONCE");
    int before = errno;
    int yes = flag && unlink(flag) == 0;
    errno = yes ? EIO : before;
    return yes;
}

#define REAL(name) ((int (*)(int))dlsym(RTLD_NEXT, name))

int fsync(int fd) { return told() ? -1 : REAL("fsync")(fd); }

int fdatasync(int fd) { return told() ? -1 : REAL("fdatasync")(fd); }
