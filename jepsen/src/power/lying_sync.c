/* A system that lies: every sync says yes and does nothing. Loaded into the nodes of one test by LD_PRELOAD, to see that
 * power cuts find it out. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int fsync(int fd) {
    (void)fd;
    return 0;
}

int fdatasync(int fd) {
    (void)fd;
    return 0;
}

int sync_file_range(int fd, off64_t from, off64_t count, unsigned int flags) {
    (void)fd, (void)from, (void)count, (void)flags;
    return 0;
}

int msync(void *at, size_t count, int flags) {
    (void)at, (void)count, (void)flags;
    return 0;
}
