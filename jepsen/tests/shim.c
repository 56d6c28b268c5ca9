/* A disk that fails when told to. Loaded into clavigerd by LD_PRELOAD: while the file that CLAVIGER_SHIM_EIO names
 * exists, every sync answers EIO; while the one that CLAVIGER_SHIM_ENOSPC names exists, every write to a file of the data
 * folder answers ENOSPC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int told(const char *variable) {
    const char *flag = getenv(variable);
    struct stat st;
    int before = errno;
    int yes = flag && stat(flag, &st) == 0;
    errno = before;
    return yes;
}

static int is_file(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fd > 2;
}

static int full(int fd) { return is_file(fd) && told("CLAVIGER_SHIM_ENOSPC"); }

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

int fsync(int fd) {
    if (is_file(fd) && told("CLAVIGER_SHIM_EIO")) { errno = EIO; return -1; }
    return REAL(int (*)(int), "fsync")(fd);
}

int fdatasync(int fd) {
    if (is_file(fd) && told("CLAVIGER_SHIM_EIO")) { errno = EIO; return -1; }
    return REAL(int (*)(int), "fdatasync")(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (full(fd)) { errno = ENOSPC; return -1; }
    return REAL(ssize_t (*)(int, const void *, size_t), "write")(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (full(fd)) { errno = ENOSPC; return -1; }
    return REAL(ssize_t (*)(int, const void *, size_t, off64_t), "pwrite64")(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (full(fd)) { errno = ENOSPC; return -1; }
    return REAL(ssize_t (*)(int, const struct iovec *, int), "writev")(fd, parts, count);
}
