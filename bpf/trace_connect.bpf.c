// SPDX-License-Identifier: MIT OR GPL-2.0
/* Reports each TCP connection that is asked for, when there is an answer, or nobody waits for one any more.
 *
 * Who asks is known when the SYN is about to be sent, in the process's context; the answer comes in whichever context. So the
 * event is put together at first, and waits in a map. It is a struct event, then the names of the cgroup (struct head).
 */
#include "tracer.h"

#include <bpf/bpf_endian.h>

/* FORGOTTEN: there was no room to wait for the answer. */
enum result { CONNECTED, NOT_CONNECTED, FORGOTTEN };

struct event {
	struct head head; /* its time: of the answer */
	__u64 latency; /* nanoseconds */
	__u8 source[16], destination[16]; /* of IPv6; those of IPv4 are mapped (RFC 4291, 2.5.5.2) */
	__u16 source_port, destination_port;
	__s32 error; /* 0 also where it was closed before an answer came */
	__u32 result;
	__u32 pad;
};

/* include/uapi/linux/{in,tcp_states,socket}.h */
#define IPPROTO_TCP 6
#define AF_INET6 10
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	__u8 bytes[16];
};

struct sock_common {
	__u32 skc_daddr, skc_rcv_saddr;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr; /* if the kernel has IPv6 */
	__u16 skc_dport, skc_family;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol; /* since 5.6; ring buffers came with 5.8 */
	int sk_err;
};

struct inet_sock {
	__u16 inet_sport; /* unlike skc_num it stays when the port is given back */
};

#pragma clang attribute pop

#define MAX_PORTS 16
const volatile __u16 ports[MAX_PORTS] = {};
const volatile __u32 port_count = 0;
const volatile __u8 failed_only = 0;

struct attempt {
	struct event event;
	char names[CGROUP_SIZE];
};

struct {
	BUFFERS(sizeof(struct attempt));
} buffers SEC(".maps");

/* By address of the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct attempt);
} attempts SEC(".maps");

static __always_inline int port_asked_for(struct sock *sk)
{
	__u16 port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));

	for (__u32 i = 0; i < MAX_PORTS && i < port_count; i++)
		if (ports[i] == port)
			return 1;
	return !port_count;
}

static __always_inline void map_address(__u8 to[16], __u32 address)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

static __always_inline void endpoints(struct event *event, struct sock *sk)
{
	struct inet_sock *inet = (void *)sk;

	event->source_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	event->destination_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr) && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&event->source, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&event->destination, sk, __sk_common.skc_v6_daddr);
	} else {
		map_address(event->source, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		map_address(event->destination, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	}
}

static __always_inline int report(struct attempt *attempt, struct sock *sk, __u32 result)
{
	struct event *event = &attempt->event;

	endpoints(event, sk);
	event->result = result;
	return send(event, sizeof(*event) + at_most(event->head.cgroup_size, CGROUP_SIZE));
}

SEC("raw_tp/inet_sock_set_state")
int connect_begins(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct attempt *attempt;
	__u64 key = (__u64)sk;

	if ((int)ctx->args[2] != TCP_SYN_SENT || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (!port_asked_for(sk) || !asked_for())
		return 0;
	attempt = buffer(&buffers);
	if (!attempt)
		return count_lost();
	begin(&attempt->event.head, 0);
	if (!complete(&attempt->event.head))
		return 0;
	cgroup_names(&attempt->event.head, attempt->names);
	attempt->event.latency = 0;
	attempt->event.error = 0;
	if (bpf_map_update_elem(&attempts, &key, attempt, BPF_ANY))
		return report(attempt, sk, FORGOTTEN);
	return 0;
}

static __always_inline int end(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	int before = ctx->args[1], after = ctx->args[2], connected = after == TCP_ESTABLISHED;
	struct attempt *attempt;
	__u64 key = (__u64)sk, now;

	if (before != TCP_SYN_SENT && before != TCP_SYN_RECV) /* the latter if both sides ask at once */
		return 0;
	if (!connected && after != TCP_CLOSE)
		return 0;
	attempt = bpf_map_lookup_elem(&attempts, &key);
	if (!attempt)
		return 0;
	if (!connected || !failed_only) {
		now = bpf_ktime_get_ns();
		attempt->event.latency = now - attempt->event.head.time;
		attempt->event.head.time = now;
		attempt->event.error = BPF_CORE_READ(sk, sk_err);
		report(attempt, sk, connected ? CONNECTED : NOT_CONNECTED);
	}
	bpf_map_delete_elem(&attempts, &key);
	return 0;
}

/* The kernel does not run a program on a CPU where it runs already. Tracepoints are not preempted, but a packet may interrupt a
 * process that is in one. What connect_begins misses then is no beginning, for processes begin. An end is for two programs:
 * the packet's for the one that was not interrupted, the process's for both, of which the second finds nothing to do.
 */
SEC("raw_tp/inet_sock_set_state")
int connect_ends(struct bpf_raw_tracepoint_args *ctx)
{
	return end(ctx);
}

SEC("raw_tp/inet_sock_set_state")
int connect_ends_too(struct bpf_raw_tracepoint_args *ctx)
{
	return end(ctx);
}

#include "follow.h"

/* Keeps the type in the object's BTF, for those who read its records. */
const struct event *unused_event __attribute__((unused));

char LICENSE[] SEC("license") = "Dual MIT/GPL";
