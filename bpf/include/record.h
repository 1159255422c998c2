// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
#pragma once

#include "kernel.h"

// How a flow record gets to user space. All go into hachi_recent, where a new one overwrites the oldest and any number
// of readers look; and into hachi_ring, while somebody follows.

#define RECENT 4096          // records
#define RING (1 << 20)       // bytes
#define RING_WAKE (64 << 10) // bytes; below them the follower comes by itself
#define DNS_MAX 512          // bytes of a message that are kept

#define BYTE __attribute__((packed))
enum record_kind { RECORD_CONN, RECORD_OPEN, RECORD_DNS } BYTE;
enum record_direction { DIRECTION_OUT, DIRECTION_IN } BYTE;
enum record_verdict { VERDICT_OK, VERDICT_FAILED, VERDICT_RESET, VERDICT_REFUSED } BYTE;

// Places in hachi_losses.
#define LOST_RING 0      // nobody fetched a record in time
#define LOST_UNTRACKED 1 // no memory to note that a connection began
#define LOSSES 2

struct endpoint {
	__be32 addr[4]; // IPv4 in the first
	__u16 port;     // in the machine's byte order
	__u16 family;   // 0: none
};

struct record {
	__u64 seq;    // 0 while it is being written
	__u64 time;   // ns since boot
	__u64 cgroup; // id
	__u64 cookie;
	__u64 duration; // ns
	__u64 tx_bytes, rx_bytes;
	__u32 rtt, min_rtt; // us
	__u32 retransmits;
	__u16 error; // errno
	enum record_kind kind;
	enum record_direction direction;
	enum record_verdict verdict;
	__u8 protocol;
	__u16 dns_size; // of the message; what is above DNS_MAX is not kept
	struct endpoint local, peer, original;
	__u8 dns[DNS_MAX];
	__u64 end; // as seq; a reader that finds another saw the record half written
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECENT);
	__type(key, __u32);
	__type(value, struct record);
} hachi_recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING);
} hachi_ring SEC(".maps");

// The number of the last record.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} hachi_seq SEC(".maps");

// What user space wants.
struct wish {
	__u64 lease;  // until when, in ns since boot, somebody reads the ring
	__u64 period; // ns between two records of an open connection; 0: PERIOD
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wish);
} hachi_wish SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSSES);
	__type(key, __u32);
	__type(value, __u64);
} hachi_losses SEC(".maps");

static __always_inline void record_lost(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&hachi_losses, &what);

	if (n)
		__sync_fetch_and_add(n, 1);
}

// record_begin takes the next number and its place, which holds what the record there held before.
static __always_inline struct record *record_begin(__u64 *seq)
{
	__u32 i = 0;
	__u64 *last = bpf_map_lookup_elem(&hachi_seq, &i);
	struct record *r;

	if (!last)
		return 0;
	*seq = __sync_fetch_and_add(last, 1) + 1;
	i = (*seq - 1) % RECENT;
	r = bpf_map_lookup_elem(&hachi_recent, &i);
	if (!r)
		return 0;
	// Exchanges, because they keep their order on every machine.
	__sync_lock_test_and_set(&r->end, 0);
	__sync_lock_test_and_set(&r->seq, 0);
	return r;
}

// record_end publishes; size is that of the part which means something.
static __always_inline void record_end(struct record *r, __u64 seq, __u32 size)
{
	__u64 flags = BPF_RB_NO_WAKEUP;
	__u32 zero = 0;
	struct wish *wish = bpf_map_lookup_elem(&hachi_wish, &zero);

	__sync_lock_test_and_set(&r->end, seq);
	__sync_lock_test_and_set(&r->seq, seq);
	if (!wish || r->time >= wish->lease)
		return;
	if (bpf_ringbuf_query(&hachi_ring, BPF_RB_AVAIL_DATA) >= RING_WAKE)
		flags = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(&hachi_ring, r, size, flags))
		record_lost(LOST_RING);
}

// record_refused tells of a connection that a policy denied before its first packet. There is no local address yet.
static __always_inline void record_refused(__u64 cgroup, __u64 cookie, const struct endpoint *peer, __u16 error)
{
	struct record *r;
	__u64 seq;

	if (!(r = record_begin(&seq)))
		return;
	r->time = bpf_ktime_get_boot_ns();
	r->cgroup = cgroup;
	r->cookie = cookie;
	r->duration = r->tx_bytes = r->rx_bytes = 0;
	r->rtt = r->min_rtt = r->retransmits = 0;
	r->error = error;
	r->kind = RECORD_CONN;
	r->direction = DIRECTION_OUT;
	r->verdict = VERDICT_REFUSED;
	r->protocol = IPPROTO_TCP;
	r->dns_size = 0;
	__builtin_memset(&r->local, 0, sizeof(r->local));
	__builtin_memset(&r->original, 0, sizeof(r->original));
	r->local.family = peer->family;
	r->peer = *peer;
	record_end(r, seq, offsetof(struct record, dns));
}
