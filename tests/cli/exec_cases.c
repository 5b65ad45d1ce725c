/* One exec made in an unusual way: exec_cases CASE PATH [ARGUMENT...] executes PATH with just these arguments (argv[0], too)
 * and an empty environment. If that fails, the exit status is errno. With PATH empty, a process ends in an unusual way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *none[] = { NULL };
static char *volatile nowhere = (char *)8;

/* A copy that no page table knows. */
static void *cold(const void *data, size_t size)
{
	int fd = memfd_create("cold", MFD_CLOEXEC);
	void *at;

	if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		exit(100);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		exit(100);
	return at;
}

static size_t count(char **argv)
{
	size_t n = 0;

	while (argv[n])
		n++;
	return n;
}

static void plain(char *path, char **argv)
{
	execve(path, argv, none);
}

static void cold_path(char *path, char **argv)
{
	execve(cold(path, strlen(path) + 1), argv, none);
}

static void cold_arguments(char *path, char **argv)
{
	for (size_t i = 1; i < count(argv); i++)
		argv[i] = cold(argv[i], strlen(argv[i]) + 1);
	execve(path, argv, none);
}

static void cold_vector(char *path, char **argv)
{
	execve(path, cold(argv, (count(argv) + 1) * sizeof(char *)), none);
}

static void bad_path(char *path, char **argv)
{
	(void)path;
	execve(nowhere, argv, none);
}

static void bad_vector(char *path, char **argv)
{
	(void)argv;
	execve(path, (char **)nowhere, none);
}

static void bad_argument(char *path, char **argv)
{
	argv[count(argv) - 1] = nowhere;
	execve(path, argv, none);
}

static void null_vector(char *path, char **argv)
{
	(void)argv;
	syscall(SYS_execve, path, NULL, none);
}

static void empty_path(char *path, char **argv)
{
	syscall(SYS_execveat, open(path, O_PATH | O_CLOEXEC), "", argv, none, AT_EMPTY_PATH);
}

static void in_directory(char *path, char **argv)
{
	char *name = strdup(basename(path));

	syscall(SYS_execveat, open(dirname(path), O_PATH | O_DIRECTORY | O_CLOEXEC), name, argv, none, 0);
}

static void no_follow(char *path, char **argv)
{
	syscall(SYS_execveat, AT_FDCWD, path, argv, none, AT_SYMLINK_NOFOLLOW);
}

static void memfd(char *path, char **argv)
{
	int in = open(path, O_RDONLY | O_CLOEXEC), out = memfd_create("anonymous", MFD_CLOEXEC);
	struct stat stat;

	if (in < 0 || fstat(in, &stat) || sendfile(out, in, NULL, stat.st_size) != stat.st_size)
		exit(100);
	fexecve(out, argv, none);
}

static char **thread_argv;

static void *execute(void *path)
{
	prctl(PR_SET_NAME, "a-thread");
	execve(path, thread_argv, none);
	exit(errno);
}

static void thread(char *path, char **argv)
{
	pthread_t made;

	thread_argv = argv;
	pthread_create(&made, NULL, execute, path);
	pthread_join(made, NULL);
}

#ifdef __x86_64__
/* The 32-bit way into the kernel, with pointers below 4 GiB. */
static void int80(char *path, char **argv)
{
	char *low = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	unsigned *vector = (unsigned *)low, *nothing = vector + 64;
	char *next = low + 4096;
	long result;

	for (size_t i = 0; i < count(argv); i++) {
		vector[i] = (unsigned)(unsigned long)next;
		next = stpcpy(next, argv[i]) + 1;
	}
	strcpy(next, path);
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(11), "b"(next), "c"(vector), "d"(nothing) : "memory");
	errno = -result;
}
#endif

static void *wait_forever(void *nothing)
{
	for (;;)
		pause();
	return nothing;
}

/* Eight threads, the leader ends the process with 7. */
static void threads(char *path, char **argv)
{
	pthread_t made;

	(void)path, (void)argv;
	for (int i = 0; i < 8; i++)
		pthread_create(&made, NULL, wait_forever, NULL);
	syscall(SYS_exit_group, 7);
}

static void *end_later(void *status)
{
	prctl(PR_SET_NAME, "the-last");
	usleep(100000);
	syscall(SYS_exit, (long)status);
	return NULL;
}

/* The leader ends first, with 3, another thread later, with 5: no exit_group, so the leader's status counts. */
static void leader_first(char *path, char **argv)
{
	pthread_t made;

	(void)path, (void)argv;
	pthread_create(&made, NULL, end_later, (void *)5L);
	syscall(SYS_exit, 3);
}

/* Many threads end at the same time, each by itself. */
static void *end_now(void *barrier)
{
	pthread_barrier_wait(barrier);
	syscall(SYS_exit, 0);
	return NULL;
}

static void all_at_once(char *path, char **argv)
{
	static pthread_barrier_t barrier;
	pthread_t made;

	(void)path, (void)argv;
	pthread_barrier_init(&barrier, NULL, 9);
	for (int i = 0; i < 8; i++)
		pthread_create(&made, NULL, end_now, &barrier);
	end_now(&barrier);
}

static void fault(char *path, char **argv)
{
	(void)path, (void)argv;
	raise(SIGSEGV);
}

static const struct {
	const char *name;
	void (*run)(char *path, char **argv);
} cases[] = {
	{ "plain", plain }, { "cold-path", cold_path }, { "cold-arguments", cold_arguments }, { "cold-vector", cold_vector },
	{ "bad-path", bad_path }, { "bad-vector", bad_vector }, { "bad-argument", bad_argument }, { "null-vector", null_vector },
	{ "empty-path", empty_path }, { "in-directory", in_directory }, { "no-follow", no_follow }, { "memfd", memfd },
	{ "thread", thread }, { "threads", threads }, { "leader-first", leader_first }, { "all-at-once", all_at_once },
	{ "fault", fault },
#ifdef __x86_64__
	{ "int80", int80 },
#endif
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 2 && i < sizeof(cases) / sizeof(*cases); i++)
		if (!strcmp(cases[i].name, argv[1])) {
			cases[i].run(argv[2], argv + 3);
			return errno;
		}
	return 100;
}
