// Functions of the kernel: one that is there, weak ones that are missing or guarded.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct task_struct { int pid; } __attribute__((preserve_access_index));
struct task_struct *bpf_task_from_pid(int pid) __ksym;
void bpf_task_release(struct task_struct *task) __ksym;
int bpf_no_such_function(void *pointer, int number) __ksym __weak;
int found;

SEC("syscall")
int functions(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (bpf_no_such_function)
		return bpf_no_such_function(ctx, 3);
	if (!task)
		return 1;
	found = task->pid;
	bpf_task_release(task);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
