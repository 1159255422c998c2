//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// A pod's outbound TCP goes to the endpoint on its loopback. Linux 6.1.

#include "origin.h"
#include "record.h"
#include "redirect.h"

char _license[] SEC("license") = "GPL";

#define LOOPBACK bpf_htonl(0x7f000001)
#define ECONNREFUSED 111
#define ENOMEM 12
#define SOL_SOCKET 1
#define SO_BINDTOIFINDEX 62
#define SOL_IP 0
#define SOL_IPV6 41
#define SO_ORIGINAL_DST 80

// One pod's settings. They hang on the cgroup that the programs hang on, so that it does not matter who calls
// connect, or in which cgroup below the socket was made.
struct settings {
	__u64 pod;   // the cgroup's id; 0 while the pod is being attached
	__u32 mark;  // of sockets to leave alone; 0: none
	__u32 rules; // by enum kind
	__u16 port;  // of the endpoint
	__u16 open;  // without an endpoint: go direct instead of refusing
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, struct settings);
} redirect_pods SEC(".maps");

// How a connection to an endpoint looks from both of its ends: the destination is always the loopback.
struct tuple {
	__u64 netns; // cookie; every pod's connections look like 127.0.0.1:x -> 127.0.0.1:4140
	__u32 source[4];
	__u16 family;
	__u16 source_port, port;
	__u16 pad;
};

// The way from one end to the other: written just before the SYN, taken away with the end of the handshake.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tuple);
	__type(value, struct origin);
} redirect_flight SEC(".maps");

// refuse counts and, if flows are loaded, leaves a record: nothing of this connection will be seen elsewhere.
static __noinline int refuse(struct bpf_sock_addr *ctx, __u64 pod, struct origin *to, __u16 err)
{
	struct record *r;
	__u64 seq;

	bpf_set_retval(-err);
	if (!pod)
		return 0;
	refused(pod);
	r = record_begin(&seq);
	if (!r)
		return 0;
	__builtin_memset(&r->time, 0, offsetof(struct record, dns) - offsetof(struct record, time));
	r->time = bpf_ktime_get_boot_ns();
	r->cgroup = pod;
	r->cookie = bpf_get_socket_cookie(ctx);
	r->error = err;
	r->kind = RECORD_CONN;
	r->direction = DIRECTION_OUT;
	r->verdict = VERDICT_REFUSED;
	r->protocol = IPPROTO_TCP;
	r->local.family = r->peer.family = to->family; // no local address was chosen
	r->peer.port = bpf_ntohs(to->port);
	__builtin_memcpy(r->peer.addr, to->addr, sizeof(r->peer.addr));
	record_end(r, seq, offsetof(struct record, dns));
	return 0;
}

static __always_inline int go_direct(struct bpf_sock *sk, struct origin *seen)
{
	// The socket may have been redirected before and be used again.
	if (seen && !seen->skip)
		bpf_sk_storage_delete(&redirect_origins, sk);
	return 1;
}

static __always_inline int listens(struct bpf_sock_addr *ctx, struct settings *set, int v6)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;
	int state;

	// From a port that no connection has: only a listener can answer.
	if (v6) {
		t.ipv6.saddr[3] = t.ipv6.daddr[3] = bpf_htonl(1);
		t.ipv6.dport = bpf_htons(set->port);
		sk = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	} else {
		t.ipv4.saddr = t.ipv4.daddr = LOOPBACK;
		t.ipv4.dport = bpf_htons(set->port);
		sk = bpf_sk_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state == BPF_TCP_LISTEN;
}

// steer decides about one connect: 1 go on, as it is or, with *to set, to the endpoint's port; 0 refused.
static __always_inline int steer(struct bpf_sock_addr *ctx, struct origin *o, int loopback, int v6, __u16 *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct settings *set;
	struct origin *kept;
	int none = 0;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_MPTCP)
		return 1;
	if (!sk)
		return 0;
	kept = bpf_sk_storage_get(&redirect_origins, sk, 0, 0);
	if (loopback || (kept && kept->skip))
		return go_direct(sk, kept);
	set = bpf_get_local_storage(&redirect_pods, 0);
	if (!set->pod)
		return refuse(ctx, 0, o, ECONNREFUSED);
	if (!set->port || (set->mark && sk->mark == set->mark))
		return go_direct(sk, kept);
	if (ruled_port(set->rules, set->pod, OUT_SKIP_PORT, o->port))
		return go_direct(sk, kept);
	if (o->family == AF_INET ? ruled(set->rules, set->pod, OUT_SKIP_V4, 32, o->addr[0], 0, 0, 0) :
				   ruled(set->rules, set->pod, OUT_SKIP_V6, 128, o->addr[0], o->addr[1], o->addr[2], o->addr[3]))
		return go_direct(sk, kept);
	if (!listens(ctx, set, v6)) {
		if (set->open)
			return go_direct(sk, kept);
		return refuse(ctx, set->pod, o, ECONNREFUSED);
	}
	// The endpoint is on lo. Which device the guest wanted is the endpoint's affair from here on.
	if (sk->bound_dev_if && bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof(none)))
		return refuse(ctx, set->pod, o, ECONNREFUSED);
	o->pod = set->pod;
	if (!kept)
		kept = bpf_sk_storage_get(&redirect_origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return refuse(ctx, set->pod, o, ENOMEM);
	*kept = *o;
	*to = bpf_htons(set->port);
	return 1;
}

// 0.0.0.0 and :: mean the loopback to connect.
static __always_inline int is_loopback4(__u32 a)
{
	return !a || bpf_ntohl(a) >> 24 == 127;
}

SEC("cgroup/connect4")
int hachi_connect4(struct bpf_sock_addr *ctx)
{
	struct origin o = { .family = AF_INET, .addr = { ctx->user_ip4 }, .port = ctx->user_port };
	__u16 to = 0;

	if (!steer(ctx, &o, is_loopback4(o.addr[0]), 0, &to))
		return 0;
	if (to) {
		ctx->user_ip4 = LOOPBACK;
		ctx->user_port = to;
	}
	return 1;
}

SEC("cgroup/connect6")
int hachi_connect6(struct bpf_sock_addr *ctx)
{
	__u32 a = ctx->user_ip6[0], b = ctx->user_ip6[1], c = ctx->user_ip6[2], d = ctx->user_ip6[3];
	struct origin o = { .family = AF_INET6, .addr = { a, b, c, d }, .port = ctx->user_port };
	int mapped = !a && !b && c == V4_MAPPED;
	__u16 to = 0;

	if (mapped) {
		struct origin v4 = { .family = AF_INET, .addr = { d }, .port = ctx->user_port };

		if (!steer(ctx, &v4, is_loopback4(d), 0, &to))
			return 0;
		if (to) {
			ctx->user_ip6[3] = LOOPBACK;
			ctx->user_port = to;
		}
		return 1;
	}
	if (!steer(ctx, &o, !a && !b && !c && (!d || d == bpf_htonl(1)), 1, &to))
		return 0;
	if (to) {
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(1);
		ctx->user_port = to;
	}
	return 1;
}

// On a cgroup below the pod's that is left alone. Programs run from the socket's cgroup upwards, so the mark is there
// when the pod's own program looks.
static __always_inline int leave_alone(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *o;

	if (!sk || (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_MPTCP))
		return 1;
	o = bpf_sk_storage_get(&redirect_origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (o)
		o->skip = 1;
	return 1;
}

SEC("cgroup/connect4")
int hachi_skip4(struct bpf_sock_addr *ctx)
{
	return leave_alone(ctx);
}

SEC("cgroup/connect6")
int hachi_skip6(struct bpf_sock_addr *ctx)
{
	return leave_alone(ctx);
}

static __always_inline struct origin *peer(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *o;

	if (!sk)
		return 0;
	o = bpf_sk_storage_get(&redirect_origins, sk, 0, 0);
	return o && !o->skip ? o : 0;
}

SEC("cgroup/getpeername4")
int hachi_peer4(struct bpf_sock_addr *ctx)
{
	struct origin *o = peer(ctx);

	if (o) {
		ctx->user_ip4 = o->addr[0];
		ctx->user_port = o->port;
	}
	return 1;
}

SEC("cgroup/getpeername6")
int hachi_peer6(struct bpf_sock_addr *ctx)
{
	struct origin *o = peer(ctx);

	if (!o)
		return 1;
	if (o->family == AF_INET) {
		ctx->user_ip6[3] = o->addr[0];
	} else {
		ctx->user_ip6[0] = o->addr[0];
		ctx->user_ip6[1] = o->addr[1];
		ctx->user_ip6[2] = o->addr[2];
		ctx->user_ip6[3] = o->addr[3];
	}
	ctx->user_port = o->port;
	return 1;
}

// A process with a Multipath TCP socket holds the outer one; connections are made by an inner one.
static __always_inline void tell_outer(struct bpf_sock *sk, struct origin *o)
{
	struct mptcp_sock *outer = bpf_skc_to_mptcp_sock(sk);
	struct origin *copy;

	if (!outer)
		return;
	copy = bpf_sk_storage_get(&redirect_origins, outer, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (copy)
		*copy = *o;
}

// On the pod's cgroup: the source port is chosen, the SYN not yet sent.
SEC("sockops")
int hachi_depart(struct bpf_sock_ops *ctx)
{
	struct tuple t = {};
	struct bpf_sock *sk;
	struct origin *o;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	o = bpf_sk_storage_get(&redirect_origins, sk, 0, 0);
	if (!o || o->skip)
		return 1;
	t.netns = bpf_get_netns_cookie(ctx);
	t.family = o->family;
	t.source_port = ctx->local_port;
	t.port = bpf_ntohl(ctx->remote_port);
	// A mapped socket has no mapped source address yet, but its v4 one is there.
	if (o->family == AF_INET) {
		t.source[0] = ctx->local_ip4;
	} else {
		t.source[0] = ctx->local_ip6[0];
		t.source[1] = ctx->local_ip6[1];
		t.source[2] = ctx->local_ip6[2];
		t.source[3] = ctx->local_ip6[3];
	}
	bpf_map_update_elem(&redirect_flight, &t, o, BPF_ANY);
	tell_outer(sk, o);
	return 1;
}

// On the endpoint's cgroup: the accepted socket inherits what the client's knows, before accept can return it.
SEC("sockops")
int hachi_arrive(struct bpf_sock_ops *ctx)
{
	struct origin *o, *mine;
	struct tuple t = {};
	struct bpf_sock *sk;

	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	t.netns = bpf_get_netns_cookie(ctx);
	t.source_port = bpf_ntohl(ctx->remote_port);
	t.port = ctx->local_port;
	t.family = AF_INET;
	if (ctx->family == AF_INET) {
		t.source[0] = ctx->remote_ip4;
	} else {
		__u32 a = ctx->remote_ip6[0], b = ctx->remote_ip6[1], c = ctx->remote_ip6[2], d = ctx->remote_ip6[3];

		if (!a && !b && c == V4_MAPPED) {
			t.source[0] = d;
		} else {
			t.family = AF_INET6;
			t.source[0] = a;
			t.source[1] = b;
			t.source[2] = c;
			t.source[3] = d;
		}
	}
	o = bpf_map_lookup_elem(&redirect_flight, &t);
	if (!o)
		return 1;
	mine = bpf_sk_storage_get(&redirect_origins, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (mine)
		*mine = *o;
	tell_outer(sk, o);
	bpf_map_delete_elem(&redirect_flight, &t);
	return 1;
}

struct sockaddr4 {
	__u16 family, port;
	__u32 addr, zero[2];
};

struct sockaddr6 {
	__u16 family, port;
	__u32 flow, addr[4], scope;
};

// On the endpoint's cgroup, for one that was written for iptables: SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST.
SEC("cgroup/getsockopt")
int hachi_original(struct bpf_sockopt *ctx)
{
	struct sockaddr6 *v6 = ctx->optval;
	struct sockaddr4 *v4 = ctx->optval;
	void *end = ctx->optval_end;
	struct bpf_sock *sk;
	struct origin *o;

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6))
		return 1;
	sk = ctx->sk;
	o = sk ? bpf_sk_storage_get(&redirect_origins, sk, 0, 0) : 0;
	if (!o || o->skip)
		return 1;
	if (ctx->level == SOL_IP && o->family == AF_INET && (void *)(v4 + 1) <= end) {
		*v4 = (struct sockaddr4){ .family = AF_INET, .port = o->port, .addr = o->addr[0] };
		ctx->optlen = sizeof(*v4);
		ctx->retval = 0;
	} else if (ctx->level == SOL_IPV6 && o->family == AF_INET6 && (void *)(v6 + 1) <= end) {
		*v6 = (struct sockaddr6){ .family = AF_INET6, .port = o->port };
		__builtin_memcpy(v6->addr, o->addr, sizeof(v6->addr));
		ctx->optlen = sizeof(*v6);
		ctx->retval = 0;
	}
	return 1;
}
