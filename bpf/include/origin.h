// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

// Where a connection wanted to go. Addresses in network byte order.
struct origin {
	__u64 pod;
	__u32 addr[4];
	__u16 port;
	__u16 family; // AF_INET also for a mapped address
	__u32 skip;   // no origin: a cgroup that is left alone
};

// Written by redirection: on the client's socket from connect on, on the accepted one from the end of the handshake on.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct origin);
} redirect_origins SEC(".maps");
