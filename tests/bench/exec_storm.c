/* Starts processes, each with an argument of its own, and prints how many: exec_storm TAG WORKERS SECONDS COUNT RATE
 *
 * COUNT 0: as many as go in SECONDS, as fast as the workers can; else so many, at RATE a second.
 * exec_storm getppid: nanoseconds of the quickest getppid(), the mean of a thousand at a time.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int system_call(void)
{
	double best = 1, begin;

	for (int round = 0; round < 2000; round++) {
		begin = now();
		for (int i = 0; i < 1000; i++)
			syscall(SYS_getppid);
		if (now() - begin < best)
			best = now() - begin;
	}
	printf("%.1f\n", best * 1e6);
	return 0;
}

static long work(const char *tag, int worker, int workers, double seconds, long count, double rate)
{
	double begin = now(), due, wait;
	char mark[64];
	char *argv[] = {"/bin/true", (char *)tag, mark, NULL}, *env[] = {NULL};
	struct timespec pause;
	long done = 0;

	for (long i = worker; count ? i < count : now() - begin < seconds; i += workers) {
		due = begin + i / rate;
		wait = rate > 0 ? due - now() : 0;
		if (wait > 0) {
			pause.tv_sec = wait;
			pause.tv_nsec = (wait - pause.tv_sec) * 1e9;
			nanosleep(&pause, NULL);
		}
		snprintf(mark, sizeof mark, "n%ld", i);
		pid_t pid = vfork();
		if (!pid) {
			execve(argv[0], argv, env);
			_exit(127);
		}
		int status;
		waitpid(pid, &status, 0);
		done += status == 0;
	}
	return done;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "getppid"))
		return system_call();
	if (argc != 6)
		return 2;
	int workers = atoi(argv[2]);
	long *done = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), sum = 0;

	for (int i = 0; i < workers; i++)
		if (!fork()) {
			done[i] = work(argv[1], i, workers, atof(argv[3]), atol(argv[4]), atof(argv[5]));
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < workers; i++)
		sum += done[i];
	printf("%ld\n", sum);
	return 0;
}
