//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// TCP that arrives at a pod is accepted by the endpoint's listener, whatever its port. Linux 6.1. No helper tells a
// lookup which network namespace it is in, so each pod has a copy of this program with maps of its own.

#include "redirect.h"

char _license[] SEC("license") = "GPL";

struct inbound {
	__u64 pod;   // the id of the pod's first cgroup
	__u64 netns; // cookie, for whoever sets listeners
	__u32 rules; // by enum kind
	__u32 open;  // without an endpoint: the app itself instead of nobody
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct inbound);
} inbound_pod SEC(".maps");

// The endpoint's listeners: 0 for IPv4, 1 for IPv6. One that dies leaves by itself.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32)); // this kind of map has no types
	__uint(value_size, sizeof(__u64));
} inbound_listeners SEC(".maps");

SEC("sk_lookup")
int hachi_inbound(struct bpf_sk_lookup *ctx)
{
	__u16 port = bpf_htons((__u16)ctx->local_port);
	__u32 zero = 0, v6 = ctx->family == AF_INET6;
	struct inbound *set;
	struct bpf_sock *sk;
	int skip, local, rc;

	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	set = bpf_map_lookup_elem(&inbound_pod, &zero);
	if (!set)
		return SK_DROP;
	// The pod with itself, among others the endpoint with the app. Equal addresses show it where the interface does
	// not: a connection over lo to the pod's address names the device which has the address. From outside neither
	// these nor loopback addresses get here: the kernel drops them as martians, or answers to itself.
	if (v6) {
		__u32 l0 = ctx->local_ip6[0], l1 = ctx->local_ip6[1], l2 = ctx->local_ip6[2], l3 = ctx->local_ip6[3];
		__u32 r0 = ctx->remote_ip6[0], r1 = ctx->remote_ip6[1], r2 = ctx->remote_ip6[2], r3 = ctx->remote_ip6[3];

		local = (l0 == r0 && l1 == r1 && l2 == r2 && l3 == r3) || (!l0 && !l1 && !l2 && l3 == bpf_htonl(1)) ||
			(!r0 && !r1 && !r2 && r3 == bpf_htonl(1));
		skip = ruled(set->rules, set->pod, IN_SKIP_V6, 128, r0, r1, r2, r3);
	} else {
		__u32 l = ctx->local_ip4, r = ctx->remote_ip4;

		local = l == r || bpf_ntohl(l) >> 24 == 127 || bpf_ntohl(r) >> 24 == 127;
		skip = ruled(set->rules, set->pod, IN_SKIP_V4, 32, r, 0, 0, 0);
	}
	if (local || skip || ruled_port(set->rules, set->pod, IN_SKIP_PORT, port))
		return SK_PASS;
	if (set->rules & (1 << IN_ONLY_PORT) && !ruled_port(set->rules, set->pod, IN_ONLY_PORT, port))
		return SK_PASS;
	sk = bpf_map_lookup_elem(&inbound_listeners, &v6);
	if (!sk) {
		if (set->open)
			return SK_PASS;
		refused(set->pod);
		return SK_DROP;
	}
	rc = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_REPLACE);
	bpf_sk_release(sk);
	return rc ? SK_DROP : SK_PASS;
}
