/* Many execs in a short time.
 *
 *   exec_many vectors PROGRAM FILE        PROGRAM with each vector of FILE: its length (32 bits), then that many strings with NUL
 *   exec_many storm PROGRAM COUNT [STOP]  COUNT of PROGRAM in each of two workers, with unique arguments: WORKER NUMBER.
 *                                         With STOP the parent, which traces us, is stopped so many milliseconds, and until
 *                                         all is done
 *   exec_many chain PROGRAM DEPTH         itself, DEPTH times, each the child of the one before, and at last PROGRAM
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *none[] = { NULL };

static void finish(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "exec_many: a child could not be executed\n");
		exit(1);
	}
}

static void execute(char *path, char **argv)
{
	pid_t pid = vfork();

	if (!pid) {
		execve(path, argv, none);
		_exit(errno == ENOENT ? 0 : 127); /* a file that is not there is meant to fail */
	}
	finish(pid);
}

static void vectors(char *program, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;
	char *at, *end, **argv;
	uint32_t count;

	if (fd < 0 || fstat(fd, &stat))
		exit(1);
	at = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	for (end = at + stat.st_size; at < end;) {
		memcpy(&count, at, sizeof(count));
		at += sizeof(count);
		argv = calloc(count + 1, sizeof(*argv));
		for (uint32_t i = 0; i < count; i++, at += strlen(at) + 1)
			argv[i] = at;
		execute(program, argv);
		free(argv);
	}
}

static void work(char *program, char *worker, long count)
{
	char number[24], *argv[] = { program, worker, number, NULL };

	for (long i = 0; i < count; i++) {
		snprintf(number, sizeof(number), "%ld", i);
		execute(program, argv);
	}
	exit(0);
}

static void storm(char *program, long count, long stop)
{
	char *names[] = { "first", "second" };
	pid_t workers[2];

	if (stop >= 0)
		kill(getppid(), SIGSTOP);
	for (int i = 0; i < 2; i++) {
		workers[i] = fork();
		if (!workers[i])
			work(program, names[i], count);
	}
	for (int i = 0; i < 2; i++)
		finish(workers[i]);
	if (stop >= 0) {
		usleep(stop * 1000);
		kill(getppid(), SIGCONT);
	}
}

static void chain(char *self, char *program, long depth)
{
	char number[24], *deeper[] = { self, "chain", program, number, NULL }, *last[] = { program, NULL };

	snprintf(number, sizeof(number), "%ld", depth - 1);
	execute(depth ? self : program, depth ? deeper : last);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "vectors"))
		vectors(argv[2], argv[3]);
	else if (argc >= 4 && !strcmp(argv[1], "storm"))
		storm(argv[2], atol(argv[3]), argc > 4 ? atol(argv[4]) : -1);
	else if (argc == 4 && !strcmp(argv[1], "chain"))
		chain(argv[0], argv[2], atol(argv[3]));
	else
		return 100;
	return 0;
}
