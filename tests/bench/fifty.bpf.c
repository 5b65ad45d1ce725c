// 50 CO-RE relocations of 16 types that every kernel has: what the loader's BTF index is measured with.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define T(name, ...) struct name { __VA_ARGS__ } __attribute__((preserve_access_index))
#define AT(name, field) __builtin_preserve_field_info(((struct name *)0)->field, 0)

T(task_struct, int pid; int tgid; unsigned int flags; int prio; int static_prio; int normal_prio; void *stack; void *mm;
  void *files; void *fs; void *nsproxy; void *signal;);
T(mm_struct, unsigned long start_code; unsigned long end_code; unsigned long arg_start; unsigned long arg_end; unsigned long brk;);
T(file, unsigned int f_flags; void *f_op; void *f_mapping; void *private_data;);
T(inode, unsigned long i_ino; void *i_sb; void *i_op; unsigned int i_flags;);
T(dentry, void *d_parent; void *d_inode; void *d_sb;);
T(super_block, unsigned long s_magic; void *s_root; unsigned int s_dev;);
T(sock, int sk_rcvbuf; int sk_sndbuf; void *sk_prot_creator;);
T(sk_buff, unsigned int len; unsigned int data_len; void *data;);
T(pid, unsigned int level;);
T(cred, unsigned int securebits; void *user_ns;);
T(nsproxy, void *mnt_ns; void *net_ns;);
T(signal_struct, int nr_threads; int group_exit_code;);
T(page, unsigned long flags; unsigned long private;);
T(request, void *q; unsigned int __data_len;);
T(bio, void *bi_bdev;);
T(net_device, int ifindex;);

SEC("raw_tp/sched_switch")
int fifty(void *ctx)
{
	return AT(task_struct, pid) + AT(task_struct, tgid) + AT(task_struct, flags) + AT(task_struct, prio) +
	       AT(task_struct, static_prio) + AT(task_struct, normal_prio) + AT(task_struct, stack) + AT(task_struct, mm) +
	       AT(task_struct, files) + AT(task_struct, fs) + AT(task_struct, nsproxy) + AT(task_struct, signal) +
	       AT(mm_struct, start_code) + AT(mm_struct, end_code) + AT(mm_struct, arg_start) + AT(mm_struct, arg_end) +
	       AT(mm_struct, brk) + AT(file, f_flags) + AT(file, f_op) + AT(file, f_mapping) + AT(file, private_data) +
	       AT(inode, i_ino) + AT(inode, i_sb) + AT(inode, i_op) + AT(inode, i_flags) + AT(dentry, d_parent) +
	       AT(dentry, d_inode) + AT(dentry, d_sb) + AT(super_block, s_magic) + AT(super_block, s_root) +
	       AT(super_block, s_dev) + AT(sock, sk_rcvbuf) + AT(sock, sk_sndbuf) + AT(sock, sk_prot_creator) +
	       AT(sk_buff, len) + AT(sk_buff, data_len) + AT(sk_buff, data) + AT(pid, level) + AT(cred, securebits) +
	       AT(cred, user_ns) + AT(nsproxy, mnt_ns) + AT(nsproxy, net_ns) + AT(signal_struct, nr_threads) +
	       AT(signal_struct, group_exit_code) + AT(page, flags) + AT(page, private) + AT(request, q) +
	       AT(request, __data_len) + AT(bio, bi_bdev) + AT(net_device, ifindex);
}

char LICENSE[] SEC("license") = "GPL";
