// SPDX-License-Identifier: MIT OR GPL-2.0
/* Reports each open, openat, openat2 and creat, when it returns.
 *
 * An event is a struct event, then, without padding: the path with its NUL, and the names of the cgroup (struct head).
 */
#include "syscalls.h"
#include "tracer.h"

enum fault { FLAGS_FAULT = 1, PATH_FAULT = 2 }; /* what was not in memory */

struct event {
	struct head head;
	__s32 retval;
	__s32 dirfd;
	__u64 flags;
	__u32 mode; /* means something where a file may be created */
	__u32 faults;
	__u32 path_size; /* PATH_MAX + 1: it goes on; the kernel has refused it */
	__u32 pad;
};

const volatile __u8 failed_only = 0, writes_only = 0;

struct {
	BUFFERS(sizeof(struct event) + PATH_MAX + 1 + CGROUP_SIZE);
} buffers SEC(".maps");

#define AT_FDCWD (-100)

/* include/uapi/asm-generic/fcntl.h */
#define O_WRONLY 01
#define O_RDWR 02
#define O_CREAT 0100
#define O_TRUNC 01000
#define O_TMPFILE 020000000 /* the bit that it does not share with O_DIRECTORY */
#define WRITES (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_TMPFILE)

struct open_how {
	__u64 flags, mode;
};

/* An open as its registers ask for it. */
struct request {
	__u64 path;
	__s32 dirfd;
	__u32 faults;
	struct open_how how;
};

/* Numbers that mean an open somewhere: no other call, and most are others, is looked at further. */
static __always_inline int may_be_open(int number)
{
	switch (number) {
	case 2:
	case 5:
	case 8:
	case 56:
	case 85:
	case 257:
	case 286:
	case 288:
	case 295:
	case 322:
	case 437:
		return 1;
	default:
		return 0;
	}
}

/* Is this system call an open? */
static __always_inline int request_of(struct pt_regs *regs, struct request *request)
{
	int number = syscall_of(regs), narrow;

	if (!may_be_open(number))
		return 0;
	narrow = of_32_bits(regs);
	request->dirfd = AT_FDCWD;
	if (is_call(number, narrow, 257, 295, 56, 322, 288, 286)) { /* openat */
		request->dirfd = argument(regs, narrow, 0);
		request->path = argument(regs, narrow, 1);
		request->how.flags = (__u32)argument(regs, narrow, 2);
		request->how.mode = (__u16)argument(regs, narrow, 3);
	} else if (is_call(number, narrow, 2, 5, NO_CALL, 5, 5, 5)) { /* open */
		request->path = argument(regs, narrow, 0);
		request->how.flags = (__u32)argument(regs, narrow, 1);
		request->how.mode = (__u16)argument(regs, narrow, 2);
	} else if (is_call(number, narrow, 85, 8, NO_CALL, 8, 8, 8)) { /* creat */
		request->path = argument(regs, narrow, 0);
		request->how.flags = O_CREAT | O_WRONLY | O_TRUNC;
		request->how.mode = (__u16)argument(regs, narrow, 1);
	} else if (is_call(number, narrow, 437, 437, 437, 437, 437, 437)) { /* openat2 */
		request->dirfd = argument(regs, narrow, 0);
		request->path = argument(regs, narrow, 1);
		if (bpf_probe_read_user(&request->how, sizeof(request->how), (void *)argument(regs, narrow, 2)))
			request->faults = FLAGS_FAULT;
	} else {
		return 0;
	}
	return 1;
}

SEC("raw_tp/sys_exit")
int trace_open(struct bpf_raw_tracepoint_args *ctx)
{
	struct request request = {};
	struct event *event;
	char *tail;
	__u64 size;

	if (failed_only && (long)ctx->args[1] >= 0)
		return 0;
	if (!request_of((void *)ctx->args[0], &request) || (writes_only && !(request.how.flags & WRITES)) || !asked_for())
		return 0;
	event = buffer(&buffers);
	if (!event)
		return count_lost();
	begin(&event->head, 0);
	if (!complete(&event->head))
		return 0;
	tail = (char *)(event + 1);
	event->retval = ctx->args[1];
	event->dirfd = request.dirfd;
	event->flags = request.how.flags;
	event->mode = request.how.mode;
	event->faults = request.faults;
	size = positive(read_user_string(tail, PATH_MAX + 1, (void *)request.path));
	if (!size)
		event->faults |= PATH_FAULT;
	size = forget(&event->path_size, size, PATH_MAX + 1);
	size += at_most(cgroup_names(&event->head, tail + size), CGROUP_SIZE);
	return send(event, sizeof(*event) + size);
}

#include "follow.h"

/* Keeps the type in the object's BTF, for those who read its records. */
const struct event *unused_event __attribute__((unused));

char LICENSE[] SEC("license") = "Dual MIT/GPL";
