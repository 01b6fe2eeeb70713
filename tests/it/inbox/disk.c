/* A disk that does as it is told, and tells what it did: preloaded into the gateway (LD_PRELOAD).
 *
 * DISK_MODE names a file whose first byte says how the inbox's files behave from now on:
 *   0 as usual   s syncs fail (EIO)   f no room to write (ENOSPC)   r read-only (EROFS)   w syncs wait
 * DISK_TRACE names a file that gets one line a call: "write ID" for each event id in bytes written to the inbox, "sync" and
 * "synced" around each sync that succeeds, "answer ID" before a 200 with that id goes to a socket. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ID_BYTES 36 /* hw1_ and 32 hex digits */

static int mode(void) {
    const char *path = getenv("DISK_MODE");
    char byte = '0';
    if (!path) return byte;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return '0';
    if (syscall(SYS_read, fd, &byte, 1) != 1) byte = '0';
    syscall(SYS_close, fd);
    return byte;
}

static void trace(const char *what, const char *id) {
    const char *path = getenv("DISK_TRACE");
    if (!path) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return;
    char line[64];
    int length = snprintf(line, sizeof line, "%s %.*s\n", what, id ? ID_BYTES : 0, id ? id : "");
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

static int is_inbox(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "inbox.db") != NULL && strstr(path, "-shm") == NULL && strstr(path, "-lock") == NULL;
}

static int is_socket(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
}

static void each_id(const char *what, const char *bytes, size_t length) {
    const char *at = bytes, *end = bytes + length;
    while (at + ID_BYTES <= end && (at = memmem(at, end - at, "hw1_", 4)) && at + ID_BYTES <= end) {
        if (strspn(at + 4, "0123456789abcdef") >= ID_BYTES - 4) trace(what, at);
        at += 4;
    }
}

static void answered(int fd, const char *bytes, size_t length) {
    if (length > 12 && memcmp(bytes, "HTTP/1.1 200", 12) == 0 && is_socket(fd)) {
        const char *id = memmem(bytes, length, "hw1_", 4);
        if (id) trace("answer", id);
    }
}

static ssize_t refused(int fd) {
    int now = mode();
    if ((now == 'f' || now == 'r') && is_inbox(fd)) {
        errno = now == 'f' ? ENOSPC : EROFS;
        return -1;
    }
    return 0;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int synced(int fd, int (*real)(int)) {
    if (!is_inbox(fd)) return real(fd);
    while (mode() == 'w') usleep(1000);
    if (mode() == 's') {
        errno = EIO;
        return -1;
    }
    trace("sync", NULL);
    int result = real(fd);
    if (result == 0) trace("synced", NULL);
    return result;
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return synced(fd, real);
}

int fsync(int fd) {
    REAL(fsync);
    return synced(fd, real);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    REAL(pwrite64);
    if (refused(fd)) return -1;
    if (getenv("DISK_TRACE") && is_inbox(fd)) each_id("write", bytes, length);
    return real(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return refused(fd) ? -1 : real(fd, length);
}

int fallocate64(int fd, int how, off64_t offset, off64_t length) {
    REAL(fallocate64);
    return refused(fd) ? -1 : real(fd, how, offset, length);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(write);
    answered(fd, bytes, length);
    return refused(fd) ? -1 : real(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (count > 0) answered(fd, parts[0].iov_base, parts[0].iov_len);
    return real(fd, parts, count);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    REAL(send);
    answered(fd, bytes, length);
    return real(fd, bytes, length, flags);
}
