// The peer in C: a consumer on libbpf of the ring whose descriptor is the argument.
//
// For each line on stdin: drain the ring and print the nanoseconds that it took. With a second argument: drain it without
// a pause until SIGTERM.
#include <bpf/libbpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct event {
	unsigned int pid;
	char filename[16];
};

static volatile unsigned long long sum;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	stopped = 1;
}

static int take(void *context, void *data, size_t size)
{
	const struct event *event = data;

	sum += event->pid;
	return 0;
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static long long drain(struct ring_buffer *ring)
{
	long long begin = now();

	if (ring_buffer__consume(ring) < 0)
		exit(1);
	return now() - begin;
}

int main(int count, char **arguments)
{
	struct ring_buffer *ring = ring_buffer__new(atoi(arguments[1]), take, NULL, NULL);
	char line[16];

	if (!ring)
		return 1;
	signal(SIGTERM, stop);
	printf("%s\n", libbpf_version_string());
	fflush(stdout);
	if (count > 2) {
		while (!stopped)
			ring_buffer__consume(ring);
		ring_buffer__consume(ring);
	}
	while (count == 2 && fgets(line, sizeof(line), stdin)) {
		printf("%lld\n", drain(ring));
		fflush(stdout);
	}
	ring_buffer__free(ring);
	return 0;
}
