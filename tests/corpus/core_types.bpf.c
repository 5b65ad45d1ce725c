// CO-RE: types of all kinds that exist, do not, or are another kind in the kernel: ids, sizes, existence.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

typedef unsigned int fmode_t;
typedef struct { int counter; } atomic_t;
typedef int (*initcall_t)(void);
typedef void *no_such_typedef;
union thread_union { int x; };
struct thread_union___other { int x; };          /* a union there */
enum pid_type { PIDTYPE_PID };
enum no_such_enum { NO_SUCH };
struct task_struct { int pid; };
struct file___flavour { int x; };
struct own { int a[3]; };
__u64 out[20];

SEC("raw_tp/sys_enter")
int types(void *ctx)
{
	out[0] = bpf_core_type_exists(fmode_t);
	out[1] = bpf_core_type_size(atomic_t);
	out[2] = bpf_core_type_exists(initcall_t);
	out[3] = bpf_core_type_exists(no_such_typedef);
	out[4] = bpf_core_type_size(union thread_union);
	out[5] = bpf_core_type_exists(struct thread_union___other);
	out[6] = bpf_core_type_id_kernel(enum pid_type);
	out[7] = bpf_core_type_exists(enum no_such_enum);
	out[8] = bpf_core_type_id_kernel(struct task_struct);
	out[9] = bpf_core_type_id_local(struct own);
	out[10] = bpf_core_type_size(struct file___flavour);
	out[11] = bpf_core_type_id_kernel(struct own);
	out[12] = bpf_core_type_size(struct own);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
