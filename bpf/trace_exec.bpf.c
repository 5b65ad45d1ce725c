// SPDX-License-Identifier: MIT OR GPL-2.0
/* Reports each exec that succeeded, with its whole argument block; on request those that failed, and exits.
 *
 * An event is a struct event, then, without padding: the file name with its NUL, the names of the cgroup (struct head), the
 * names of the working directory, each with its NUL, from the innermost to the root, the arguments, each with its NUL, and
 * the environment, likewise. Only the last argument that was captured may be without a NUL: it was cut.
 */
#include "syscalls.h"
#include "tracer.h"

enum kind { EXEC, FAILED_EXEC, EXIT };
enum call { NOT_KNOWN, EXECVE, EXECVEAT };
enum flag { ARGS_FAULT = 1, CWD_CUT = 2, SCRIPT = 4, PLAIN = 8, NAME_FAULT = 16, ARGS_CUT = 32 };

struct event {
	struct head head;
	__s32 retval;
	__s32 syscall; /* enum call. Of an exec that succeeded x86 has forgotten it (set_personality_64bit) */
	__u32 flags;
	__u32 argc;
	__u32 name_size, cwd_size;
	__u32 args_size, args_total; /* captured, and all; the latter means nothing for execs that failed */
	__u32 env_size, env_total;
	__u32 before_args; /* bytes between this structure and the arguments */
	__u32 pad;
};

struct exit_event {
	struct head head;
	__u32 status; /* as wait(2) has it */
};

#define NAME_MAX 256
#define PAGE 4096
#define PATHS (PATH_MAX + CGROUP_SIZE + PATH_MAX)

const volatile __u64 max_args = 16384, max_env = 0; /* bytes */
const volatile __u8 want_cwd = 0, failed_only = 0;

/* A value has room for sizeof(struct event) + PATHS + max_args + max_env, and two pages more. */
#define ROOM (sizeof(struct event) + PATHS + 16384 + 2 * PAGE)

struct {
	BUFFERS(ROOM);
} buffers SEC(".maps");

/* Each program has its own: should a kernel let one interrupt the other, neither spoils the other's event. */
struct {
	BUFFERS(ROOM);
} failure_buffers SEC(".maps");

struct {
	BUFFERS(ROOM);
} exit_buffers SEC(".maps");

/* Copy a block of user memory of at most `limit` bytes, page by page if some page of it is not there. `copied` is in an event. */
static __always_inline __u64 copy_block(void *to, __u64 from, __u64 size, __u64 limit, volatile __u32 *copied)
{
	__u64 done, step;

	size = forget(copied, size, limit);
	if (!bpf_probe_read_user(to, size, (void *)from))
		return forget(copied, size, limit);
	*copied = 0;
	for (int i = 0; i < 5; i++) { /* what the default of max_args spans; more is not worth the time to verify it */
		done = *copied;
		if (done >= size || done >= limit)
			break;
		step = PAGE - ((from + done) & (PAGE - 1));
		if (step > size - done)
			step = size - done;
		step = at_most(step, PAGE);
		if (bpf_probe_read_user(to + done, step, (void *)(from + done)))
			break;
		*copied = done + step;
	}
	return forget(copied, *copied, limit);
}

/* The names that make the working directory up, as the process sees it: up to its root, through mounts. */
static __always_inline __u64 working_directory(struct event *event, char *to)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dentry *dentry = BPF_CORE_READ(task, fs, pwd.dentry), *root = BPF_CORE_READ(task, fs, root.dentry);
	struct vfsmount *at = BPF_CORE_READ(task, fs, pwd.mnt), *root_at = BPF_CORE_READ(task, fs, root.mnt);
	struct mount *mount;
	__u64 size = 0;
	long length;

	for (int i = 0; i < 64; i++) {
		if (dentry == root && at == root_at)
			return size;
		if (dentry == BPF_CORE_READ(at, mnt_root)) {
			mount = (void *)at - bpf_core_field_offset(struct mount, mnt);
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			if (mount == BPF_CORE_READ(mount, mnt_parent))
				return size; /* detached, or outside the root */
			at = (void *)BPF_CORE_READ(mount, mnt_parent) + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (size > PATH_MAX - NAME_MAX)
			break;
		length = bpf_probe_read_kernel_str(to + size, NAME_MAX, BPF_CORE_READ(dentry, d_name.name));
		if (length > 0)
			size = forget(&event->cwd_size, size + length, PATH_MAX);
		dentry = BPF_CORE_READ(dentry, d_parent);
	}
	event->flags |= CWD_CUT;
	return size;
}

static __always_inline void clear(struct event *event, __u32 kind)
{
	begin(&event->head, kind);
	event->retval = 0;
	event->syscall = 0;
	event->flags = 0;
	event->argc = 0;
	event->name_size = 0;
	event->cwd_size = 0;
	event->args_size = 0;
	event->args_total = 0;
	event->env_size = 0;
	event->env_total = 0;
}

/* What stands between the file name and the arguments. Where these begin, counted from the end of struct event. */
static __always_inline __u64 add_places(struct event *event)
{
	char *tail = (char *)(event + 1);
	__u64 size = forget(&event->name_size, event->name_size, PATH_MAX);

	size += cgroup_names(&event->head, tail + size);
	if (want_cwd) {
		size = forget(&event->before_args, size, PATH_MAX + CGROUP_SIZE);
		size += working_directory(event, tail + size);
	}
	return forget(&event->before_args, size, PATHS);
}

SEC("raw_tp/sched_process_exec")
int trace_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct linux_binprm *bprm = (void *)ctx->args[2];
	struct event *event;
	struct mm_struct *mm;
	__u64 size, start, end;
	char *tail;

	if (failed_only || !asked_for())
		return 0;
	event = buffer(&buffers);
	if (!event)
		return count_lost();
	clear(event, EXEC);
	if (!complete(&event->head))
		return 0;
	tail = (char *)(event + 1);
	event->head.tid = ctx->args[1]; /* the caller's: it has the leader's now */
	event->argc = BPF_CORE_READ(bprm, argc);
	if (bpf_core_field_exists(bprm->fdpath)) /* /dev/fd/N: the file was given by a descriptor (5.9) */
		event->syscall = BPF_CORE_READ(bprm, fdpath) ? EXECVEAT : EXECVE;
	if (BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename))
		event->flags |= SCRIPT;
	event->name_size = positive(bpf_probe_read_kernel_str(tail, PATH_MAX, BPF_CORE_READ(bprm, filename)));
	size = add_places(event);

	mm = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), mm);
	start = BPF_CORE_READ(mm, arg_start);
	end = BPF_CORE_READ(mm, arg_end);
	event->args_total = end - start;
	size += copy_block(tail + size, start, end - start, max_args, &event->args_size);
	if (event->args_size < event->args_total && event->args_size < max_args)
		event->flags |= ARGS_FAULT;
	if (max_env) {
		start = BPF_CORE_READ(mm, env_start);
		end = BPF_CORE_READ(mm, env_end);
		event->env_total = end - start;
		size += copy_block(tail + size, start, end - start, max_env, &event->env_size);
	}
	return send(event, sizeof(*event) + size);
}

/* An exec that is asked for by a system call: what its registers say. */
struct request {
	__u64 name, argv;
	__u32 pointer_size;
};

/* Which of enum call this system call is, if it is one. Of 32-bit programs those on x86 are looked for. */
static __always_inline int request_of(struct pt_regs *regs, int number, struct request *request)
{
	int narrow = of_32_bits(regs);

	request->pointer_size = narrow ? 4 : 8;
	if (is_call(number, narrow, 59, 11, 221, NO_CALL, 11, 11)) {
		request->name = argument(regs, narrow, 0);
		request->argv = argument(regs, narrow, 1);
		return EXECVE;
	}
	if (is_call(number, narrow, 322, 358, 281, NO_CALL, 354, 362)) {
		request->name = argument(regs, narrow, 1);
		request->argv = argument(regs, narrow, 2);
		return EXECVEAT;
	}
	return NOT_KNOWN;
}

#define STEPS 512 /* arguments, or pages of them, that are read at most */

/* Put the arguments that `request` points to behind `to`, each with its NUL. What changes from step to step is in the event,
 * where the verifier does not follow it.
 */
static __always_inline void read_arguments(struct event *event, char *to, struct request *request)
{
	volatile __u32 *argc = &event->argc, *done = &event->args_size, *part = &event->args_total;
	__u64 from, size;
	long length;

	if (!request->argv)
		return; /* an empty vector, to Linux */
	for (int i = 0; i < STEPS; i++) {
		from = 0;
		if (bpf_probe_read_user(&from, request->pointer_size & 15, (void *)request->argv + *argc * request->pointer_size))
			goto fault;
		if (!from)
			return;
		size = *done;
		if (size >= max_args)
			break;
		length = read_user_string(to + size, PAGE, (void *)from + *part);
		if (length < 0)
			goto fault;
		if (length == PAGE) { /* there may be more of it: go on at the NUL */
			*part += PAGE - 1;
			*done = size + PAGE - 1;
		} else {
			*part = 0;
			*done = size + length;
			*argc += 1;
		}
	}
	event->flags |= ARGS_CUT;
	return;
fault:
	event->flags |= ARGS_FAULT;
}

/* Runs at the end of every system call on the machine, so it is loaded on request only. */
SEC("raw_tp/sys_exit")
int trace_failed_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (void *)ctx->args[0];
	struct request request = {};
	struct event *event;
	char *tail;
	__u64 size;
	int call;

	if ((long)ctx->args[1] >= 0)
		return 0;
	call = request_of(regs, syscall_of(regs), &request);
	if (!call || !asked_for())
		return 0;
	event = buffer(&failure_buffers);
	if (!event)
		return count_lost();
	clear(event, FAILED_EXEC);
	if (!complete(&event->head))
		return 0;
	tail = (char *)(event + 1);
	event->retval = ctx->args[1];
	event->syscall = call;
	event->name_size = positive(read_user_string(tail, PATH_MAX, (void *)request.name));
	if (!event->name_size)
		event->flags |= NAME_FAULT;
	size = add_places(event);
	read_arguments(event, tail + size, &request);
	if (event->args_size > max_args)
		event->flags |= ARGS_CUT;
	size += forget(&event->args_size, at_most(event->args_size, max_args), max_args);
	return send(event, sizeof(*event) + size);
}

#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h */

static __always_inline int report_exit(struct task_struct *task, struct signal_struct *signal)
{
	struct exit_event *event;
	__u64 size;

	if (!asked_for())
		return 0;
	event = buffer(&exit_buffers);
	if (!event)
		return count_lost();
	begin(&event->head, EXIT);
	BPF_CORE_READ_INTO(&event->head.comm, task, group_leader, comm);
	if (!complete(&event->head))
		return 0;
	if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
		event->status = BPF_CORE_READ(signal, group_exit_code);
	else
		event->status = BPF_CORE_READ(task, group_leader, exit_code);
	size = cgroup_names(&event->head, (char *)(event + 1));
	return send(event, sizeof(*event) + at_most(size, CGROUP_SIZE));
}

/* The last thread reports. Two that end at once may both take themselves for the last: the reader knows them by pid and start. */
SEC("raw_tp/sched_process_exit")
int trace_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	struct signal_struct *signal = BPF_CORE_READ(task, signal);

	if (BPF_CORE_READ(signal, live.counter))
		return 0;
	report_exit(task, signal);
	return leave_tree();
}

/* The layout of events/sched/sched_process_exec/format in tracefs. */
struct exec_tracepoint {
	__u64 common;
	__u32 filename; /* its length << 16 | where it stands in the record */
	__s32 pid, old_pid;
};

/* For kernels without BTF: what helpers and this tracepoint tell. The reader looks the rest up in /proc. */
SEC("tp/sched/sched_process_exec")
int trace_exec_plain(struct exec_tracepoint *ctx)
{
	struct event *event;

	if (!asked_for())
		return 0;
	event = buffer(&buffers);
	if (!event)
		return count_lost();
	clear(event, EXEC);
	event->flags |= PLAIN;
	event->head.tid = ctx->old_pid;
	event->head.cgroup_id = bpf_get_current_cgroup_id();
	event->name_size = positive(bpf_probe_read_kernel_str(event + 1, PATH_MAX, (void *)ctx + (ctx->filename & 0xffff)));
	return send(event, sizeof(*event) + at_most(event->name_size, PATH_MAX));
}

#include "follow.h"

/* Keeps the types in the object's BTF, for those who read its records. */
const struct event *unused_event __attribute__((unused));
const struct exit_event *unused_exit_event __attribute__((unused));

char LICENSE[] SEC("license") = "Dual MIT/GPL";
