// Preloaded into a program, so that its wall clock is as many seconds off as the file named by SHIFTED_CLOCK says.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    const char *name = getenv("SHIFTED_CLOCK");
    if (result == 0 && clock == CLOCK_REALTIME && name) {
        char seconds[32] = {0};
        int file = open(name, O_RDONLY);
        if (file >= 0) {
            if (read(file, seconds, sizeof seconds - 1) > 0) time->tv_sec += atol(seconds);
            close(file);
        }
    }
    return result;
}
