/* The host functions of WasmEdge's socket extension, in the shapes of its version 2. Each returns an errno. */
#ifndef HACHI_HOST_H
#define HACHI_HOST_H

#include <stddef.h>
#include <stdint.h>

#define HOST(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) uint32_t host_##name

/* An address is 128 bytes: the family, little endian, and the address or the name. */
#define HOST_ADDRESS 128

struct host_ref {
	const void *at;
	uint32_t size;
};

/* Types of sockets. Families are wasi-libc's: 1 is IPv4, 2 IPv6, 3 Unix. */
enum { HOST_DGRAM = 1, HOST_STREAM = 2 };

struct host_info {
	uint16_t flags;
	uint8_t family, socktype;
	uint32_t protocol;
	uint32_t addrlen;
	struct host_sockaddr *addr;
	char *name;
	uint32_t name_size;
	struct host_info *next;
};

struct host_sockaddr {
	uint8_t family;
	uint32_t size;
	uint8_t *data;
};

HOST(sock_open)(int32_t family, int32_t type, int32_t *fd);
HOST(sock_bind)(int32_t fd, const struct host_ref *addr, uint32_t port);
HOST(sock_listen)(int32_t fd, int32_t backlog);
HOST(sock_connect)(int32_t fd, const struct host_ref *addr, uint32_t port);
HOST(sock_accept)(int32_t fd, int32_t flags, int32_t *conn);
HOST(sock_getlocaladdr)(int32_t fd, struct host_ref *addr, uint32_t *port);
HOST(sock_getpeeraddr)(int32_t fd, struct host_ref *addr, uint32_t *port);
HOST(sock_recv_from)(int32_t fd, struct host_ref *iovs, uint32_t n, struct host_ref *addr, uint32_t flags, uint32_t *port, uint32_t *size, uint16_t *oflags);
HOST(sock_send_to)(int32_t fd, const struct host_ref *iovs, uint32_t n, const struct host_ref *addr, uint32_t port, uint32_t flags, uint32_t *size);
HOST(sock_getsockopt)(int32_t fd, uint32_t level, uint32_t name, void *value, uint32_t size);
HOST(sock_setsockopt)(int32_t fd, uint32_t level, uint32_t name, const void *value, uint32_t size);
HOST(sock_getaddrinfo)(const char *node, uint32_t node_size, const char *service, uint32_t service_size, const struct host_info *hints, struct host_info **results, uint32_t most, uint32_t *count);

#endif
