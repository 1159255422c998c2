// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

// Connections that hachi itself refused, by the cgroup that the refusing program hangs on. One pinned map that
// redirection writes and accounting reads; a row exists from the first refusal on.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} hachi_refused SEC(".maps");

static __always_inline void refused(__u64 cgroup)
{
	__u64 one = 1, *n = bpf_map_lookup_elem(&hachi_refused, &cgroup);

	// The second look is for the other CPU that made the row in between.
	if (!n && bpf_map_update_elem(&hachi_refused, &cgroup, &one, BPF_NOEXIST))
		n = bpf_map_lookup_elem(&hachi_refused, &cgroup);
	if (n)
		__sync_fetch_and_add(n, 1);
}
