//go:build ignore
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

// Counts what the sockets of one cgroup send, receive, open and lose. One struct per CPU and cgroup, which the kernel
// frees with the cgroup.
#include "pod.h"

char _license[] SEC("license") = "GPL";

enum family { FAMILY_V4, FAMILY_V6, FAMILIES };
enum protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_OTHER, PROTOCOLS };
enum { TCP_SYN_SENT = 2, TCP_CLOSE = 7 };

// Round-trip times in microseconds, four buckets to the octave: see bucket().
#define RTT_BUCKETS 96
// One segment in this many that a connection's CPU sends takes a sample. A power of two.
#define RTT_EVERY 64

struct traffic {
	__u64 bytes;   // from the IP header on; one set of headers for a packet that the device is to cut into segments
	__u64 packets; // such a packet counts as its segments
};

struct counters {
	struct traffic rx[FAMILIES][PROTOCOLS];
	struct traffic tx[FAMILIES][PROTOCOLS];
	__u64 opened;      // established, by us
	__u64 accepted;    // established, by the peer
	__u64 failed;      // sent a SYN and were never established
	__u64 closed;      // were established
	__u64 retransmits; // segments
	__u64 rtt[RTT_BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, struct counters);
} hachi_counters SEC(".maps");

NEXT(hachi_next_out);
NEXT(hachi_next_in);
NEXT(hachi_next_conn);

// add: a program may be interrupted by another run of itself, on the same CPU and for the same cgroup, so a plain ++
// would lose counts, or take them back.
#define add(counter, n) __sync_fetch_and_add(&(counter), n)

// bucket: 0..3 us have one each; from then on the two bits after the first one divide each octave in four.
static __always_inline __u32 bucket(__u32 us)
{
	__u32 octave = 0, v = us;

	if (us < 4)
		return us;
	if (v >> 16) { octave += 16; v >>= 16; }
	if (v >> 8) { octave += 8; v >>= 8; }
	if (v >> 4) { octave += 4; v >>= 4; }
	if (v >> 2) { octave += 2; v >>= 2; }
	octave += v >> 1;
	v = (octave - 1) * 4 + ((us >> (octave - 2)) & 3);
	return v < RTT_BUCKETS ? v : RTT_BUCKETS - 1;
}

// sample takes the kernel's smoothed round-trip time, in eighths of a microsecond; 0 is "none yet".
static __always_inline void sample(struct counters *c, __u32 srtt)
{
	__u32 i;

	if (!srtt)
		return;
	i = bucket(srtt >> 3);
	asm volatile("" : "+r"(i)); // so that the verifier sees the check below, which the compiler knows to be true
	if (i < RTT_BUCKETS)
		add(c->rtt[i], 1);
}

// protocol6 follows IPv6 extension headers, which are rare, to the protocol of what they carry.
static __always_inline __u8 protocol6(struct __sk_buff *skb, __u8 next)
{
	__u32 off = 40;
	__u8 h[2];

	for (int i = 0; i < 4; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT && next != IPPROTO_DSTOPTS)
			break;
		if (bpf_skb_load_bytes(skb, off, h, sizeof(h)))
			break;
		off += next == IPPROTO_FRAGMENT ? 8 : ((__u32)h[1] + 1) * 8;
		next = h[0];
	}
	return next;
}

static __always_inline int count(struct __sk_buff *skb, struct traffic (*cells)[PROTOCOLS], struct counters *c, _Bool out, void *next)
{
	__u8 *ip = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, l4;
	struct traffic *t;
	__u64 before;
	__u32 segs;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (ip + 20 > end)
			return 1;
		l4 = ip[9];
	} else {
		if (ip + 40 > end)
			return 1;
		l4 = ip[6];
		if (l4 != IPPROTO_TCP && l4 != IPPROTO_UDP)
			l4 = protocol6(skb, l4);
		cells++;
	}
	t = *cells + (l4 == IPPROTO_TCP ? PROTOCOL_TCP : l4 == IPPROTO_UDP ? PROTOCOL_UDP : PROTOCOL_OTHER);
	segs = skb->gso_segs ?: 1;
	before = add(t->packets, segs);
	add(t->bytes, skb->len);

	if (l4 == IPPROTO_TCP) {
		if (out && (before ^ (before + segs)) / RTT_EVERY) {
			struct bpf_sock *sk = skb->sk;
			struct bpf_tcp_sock *tp;

			if (sk && (sk = bpf_sk_fullsock(sk)) && (tp = bpf_tcp_sock(sk)))
				sample(c, tp->srtt_us);
		}
	} else if (l4 == IPPROTO_UDP) {
		struct pod *pod = bpf_get_local_storage(&hachi_pod, 0);

		if (pod->id)
			bpf_tail_call(skb, next, NEXT_DNS);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int account_egress(struct __sk_buff *skb)
{
	struct counters *c = bpf_get_local_storage(&hachi_counters, 0);

	return count(skb, c->tx, c, 1, &hachi_next_out);
}

SEC("cgroup_skb/ingress")
int account_ingress(struct __sk_buff *skb)
{
	struct counters *c = bpf_get_local_storage(&hachi_counters, 0);

	return count(skb, c->rx, c, 0, &hachi_next_in);
}

// watch asks for the callbacks of this connection without taking away what another program asked for.
static __always_inline void watch(struct bpf_sock_ops *ctx)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG);
}

// The context's reply stays untouched: it may be another program's.
SEC("sockops")
int account_sockops(struct bpf_sock_ops *ctx)
{
	struct counters *c = bpf_get_local_storage(&hachi_counters, 0);
	struct pod *pod = bpf_get_local_storage(&hachi_pod, 0);

	if (!pod->id)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		watch(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		add(c->opened, 1);
		sample(c, ctx->srtt_us);
		return 1;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		watch(ctx);
		add(c->accepted, 1);
		add(c->retransmits, ctx->total_retrans); // of the SYN-ACK
		sample(c, ctx->srtt_us);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		add(c->retransmits, ctx->args[1]);
		return 1;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] != TCP_CLOSE)
			return 1;
		if (ctx->args[0] == TCP_SYN_SENT) {
			add(c->failed, 1);
		} else {
			add(c->closed, 1);
			sample(c, ctx->srtt_us);
		}
		break;
	default:
		return 1;
	}
	bpf_tail_call(ctx, &hachi_next_conn, NEXT_CONNECTION);
	return 1;
}
