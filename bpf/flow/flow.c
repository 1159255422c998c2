//go:build ignore
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Records of connections and DNS messages. Accounting's programs call these by their program arrays, so that a cgroup
// runs one program per packet and event, and accounting works without them.
#include "origin.h"
#include "pod.h"
#include "record.h"

char _license[] SEC("license") = "GPL";

enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_FIN_WAIT1 = 4, TCP_CLOSE = 7, TCP_CLOSE_WAIT = 8 };
#define SOCK_DONE 1 // bit of skc_flags: the peer's FIN came
#define PERIOD 10000000000ull
#define DNS_PORT 53

struct conn {
	__u64 cgroup;
	__u64 start, last; // ns since boot: when it began, when it was last recorded
	enum record_direction direction;
	struct endpoint original;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conn);
} hachi_conns SEC(".maps");

static __always_inline void begin(struct bpf_sock_ops *ctx, struct bpf_sock *sk, enum record_direction direction)
{
	struct pod *pod = bpf_get_local_storage(&hachi_pod, 0);
	struct conn *c = bpf_sk_storage_get(&hachi_conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!c) {
		record_lost(LOST_UNTRACKED);
		return;
	}
	// The socket may have had a connection before.
	__builtin_memset(c, 0, sizeof(*c));
	c->cgroup = pod->id;
	c->start = c->last = bpf_ktime_get_boot_ns();
	c->direction = direction;
	if (direction == DIRECTION_OUT) {
		struct origin *o = bpf_sk_storage_get(&redirect_origins, sk, 0, 0);

		if (o && !o->skip) {
			__builtin_memcpy(c->original.addr, o->addr, sizeof(o->addr));
			c->original.port = bpf_ntohs(o->port);
			c->original.family = o->family;
		}
	}
}

static __always_inline void write(struct conn *c, struct tcp_sock *tp, __u64 cookie, enum record_kind kind, enum record_verdict verdict)
{
	struct sock *sk = (void *)tp;
	struct record *r;
	__u64 seq, sent, again, got;

	if (!(r = record_begin(&seq)))
		return;
	r->time = bpf_ktime_get_boot_ns();
	r->cgroup = c->cgroup;
	r->cookie = cookie;
	r->duration = r->time - c->start;
	c->last = r->time;

	sent = tp->bytes_sent;
	again = tp->bytes_retrans;
	r->tx_bytes = sent > again ? sent - again : 0;
	got = tp->bytes_received;
	if (got && sk->__sk_common.skc_flags & (1 << SOCK_DONE))
		got--; // the FIN's place in the sequence
	r->rx_bytes = got;
	r->rtt = tp->srtt_us >> 3;
	r->min_rtt = tp->rtt_min.s[0].v == ~0u ? 0 : tp->rtt_min.s[0].v;
	r->retransmits = tp->total_retrans;
	r->error = sk->sk_err;
	r->kind = kind;
	r->direction = c->direction;
	r->protocol = IPPROTO_TCP;
	r->verdict = verdict;
	r->dns_size = 0;

	__u16 family = sk->__sk_common.skc_family;

	r->local.family = r->peer.family = family;
	r->local.port = sk->__sk_common.skc_num;
	r->peer.port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (family == AF_INET) {
		r->local.addr[0] = sk->__sk_common.skc_rcv_saddr;
		r->peer.addr[0] = sk->__sk_common.skc_daddr;
	} else {
		for (int i = 0; i < 4; i++) {
			r->local.addr[i] = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[i];
			r->peer.addr[i] = sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32[i];
		}
	}
	r->original = c->original;
	record_end(r, seq, offsetof(struct record, dns));
}

SEC("sockops")
int flow_conn(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tp;
	struct conn *c;
	__u32 was;
	enum record_verdict verdict = VERDICT_OK;

	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		begin(ctx, sk, DIRECTION_OUT);
		return 1;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		begin(ctx, sk, DIRECTION_IN);
		return 1;
	}
	c = bpf_sk_storage_get(&hachi_conns, sk, 0, 0);
	tp = (void *)bpf_skc_to_tcp_sock(sk);
	if (!c || !tp)
		return 1;
	was = ctx->args[0];
	if (was == TCP_SYN_SENT)
		verdict = VERDICT_FAILED;
	else if (was == TCP_ESTABLISHED || was == TCP_SYN_RECV || was == TCP_CLOSE_WAIT || was == TCP_FIN_WAIT1 || ((struct sock *)tp)->sk_err)
		verdict = VERDICT_RESET; // an orderly end passes through other states
	write(c, tp, bpf_get_socket_cookie(ctx), RECORD_CONN, verdict);
	return 1;
}

// flow_sweep is run by a reader: connections that go on and were not recorded for a while.
SEC("iter/bpf_sk_storage_map")
int flow_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock *sk = ctx->sk;
	struct conn *c = ctx->value;
	struct tcp_sock *tp;
	struct wish *wish;
	__u32 zero = 0;
	__u8 now;

	if (!sk || !c || !(wish = bpf_map_lookup_elem(&hachi_wish, &zero)))
		return 0;
	now = sk->__sk_common.skc_state;
	if (now == TCP_CLOSE || now == TCP_SYN_SENT)
		return 0;
	if (bpf_ktime_get_boot_ns() - c->last < (wish->period ?: PERIOD))
		return 0;
	tp = (void *)bpf_skc_to_tcp_sock(sk);
	if (tp)
		write(c, tp, bpf_get_socket_cookie(sk), RECORD_OPEN, VERDICT_OK);
	return 0;
}

struct ports {
	__be16 source, dest;
	__be16 size, sum;
};

// dns records a UDP packet if it is a question to, or an answer from, port 53. IPv6 extension headers are not followed.
static __always_inline int dns(struct __sk_buff *skb, enum record_direction direction)
{
	struct endpoint source = {}, dest = {};
	struct pod *pod = bpf_get_local_storage(&hachi_pod, 0);
	struct ports udp;
	struct record *r;
	__u32 off, n;
	__u64 seq;
	__u8 first;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, &first, 1))
			return 1;
		off = (first & 15) * 4;
	} else {
		off = 40;
	}
	if (bpf_skb_load_bytes(skb, off, &udp, sizeof(udp)))
		return 1;
	if ((direction == DIRECTION_OUT ? udp.dest : udp.source) != bpf_htons(DNS_PORT))
		return 1;
	off += sizeof(udp);
	if (skb->len <= off)
		return 1;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		source.family = dest.family = AF_INET;
		bpf_skb_load_bytes(skb, 12, source.addr, 4);
		bpf_skb_load_bytes(skb, 16, dest.addr, 4);
	} else {
		source.family = dest.family = AF_INET6;
		bpf_skb_load_bytes(skb, 8, source.addr, 16);
		bpf_skb_load_bytes(skb, 24, dest.addr, 16);
	}
	source.port = bpf_ntohs(udp.source);
	dest.port = bpf_ntohs(udp.dest);

	if (!(r = record_begin(&seq)))
		return 1;
	r->time = bpf_ktime_get_boot_ns();
	r->cgroup = pod->id;
	r->cookie = bpf_get_socket_cookie(skb);
	r->duration = r->tx_bytes = r->rx_bytes = 0;
	r->rtt = r->min_rtt = r->retransmits = r->error = 0;
	r->kind = RECORD_DNS;
	r->direction = direction;
	r->protocol = IPPROTO_UDP;
	r->verdict = VERDICT_OK;
	r->local = direction == DIRECTION_OUT ? source : dest;
	r->peer = direction == DIRECTION_OUT ? dest : source;
	__builtin_memset(&r->original, 0, sizeof(r->original));
	n = skb->len - off;
	r->dns_size = n > 0xffff ? 0xffff : n;
	if (n > DNS_MAX)
		n = DNS_MAX;
	// The verifier must see that 1 <= n <= DNS_MAX, which the compiler knows and would not check.
	n--;
	asm volatile("" : "+r"(n));
	if (n >= DNS_MAX || bpf_skb_load_bytes(skb, off, r->dns, n + 1))
		r->dns_size = 0;
	record_end(r, seq, offsetof(struct record, end));
	return 1;
}

SEC("cgroup_skb/egress")
int flow_dns_out(struct __sk_buff *skb)
{
	return dns(skb, DIRECTION_OUT);
}

SEC("cgroup_skb/ingress")
int flow_dns_in(struct __sk_buff *skb)
{
	return dns(skb, DIRECTION_IN);
}
