// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
#pragma once

#include "kernel.h"

// What a program knows about the pod it runs for: the cgroup that its link hangs on, which is not always the socket's
// own, for a container may have cgroups below its first. User space writes it when it attaches.
struct pod {
	__u64 id; // the cgroup's id, the inode of its directory
};

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, __u64);
	__type(value, struct pod);
} hachi_pod SEC(".maps");

// Where accounting goes on when it has counted, if flows are loaded. One array per kind of program, for the kernel wants
// all programs of an array to be of one kind, and none to use a cgroup storage that the array's owner, the first program
// that was loaded with it, does not use.
enum next_sockops { NEXT_CONNECTION };
enum next_packet { NEXT_DNS };

#define NEXT(name)                                                                                                     \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, 1);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, __u32);                                                                                  \
	} name SEC(".maps")
