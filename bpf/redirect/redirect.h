// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
#pragma once

#include "kernel.h"
#include "refused.h"

#define IPPROTO_MPTCP 262
#define V4_MAPPED bpf_htonl(0xffff)

// What a rule is about. The bit of a kind in settings.rules says that the pod has rules of it, so that a pod without
// any pays for no lookup.
enum kind {
	OUT_SKIP_PORT,
	OUT_SKIP_V4,
	OUT_SKIP_V6,
	IN_SKIP_PORT,
	IN_SKIP_V4,
	IN_SKIP_V6,
	IN_ONLY_PORT,
};

// Ports and addresses in network byte order at the start of data, so that a prefix is a range of either.
struct rule {
	__u32 bits; // of what follows
	enum kind kind;
	__u64 pod;
	__u32 data[4];
};

#define RULE_BITS(n) (32 + 64 + (n))

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct rule);
	__type(value, __u32);
} redirect_rules SEC(".maps");

static __always_inline int ruled(__u32 rules, __u64 pod, enum kind kind, __u32 bits, __u32 a, __u32 b, __u32 c, __u32 d)
{
	struct rule key = { .bits = RULE_BITS(bits), .kind = kind, .pod = pod, .data = { a, b, c, d } };

	return rules & (1 << kind) && bpf_map_lookup_elem(&redirect_rules, &key);
}

static __always_inline int ruled_port(__u32 rules, __u64 pod, enum kind kind, __u16 be_port)
{
	// The two bytes of the port come first in memory, whatever the byte order of this machine.
	__u32 data = bpf_htonl((__u32)bpf_ntohs(be_port) << 16);

	return ruled(rules, pod, kind, 16, data, 0, 0, 0);
}
