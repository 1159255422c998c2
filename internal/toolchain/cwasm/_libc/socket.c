/* BSD sockets for wasi-libc, by the host's socket functions. What a program does not use, the linker leaves out. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host.h"

/* The flag of preview1's fdflags, which sock_accept takes. */
#define FDFLAG_NONBLOCK 4

static int result(uint32_t e) {
	if (e == 0)
		return 0;
	errno = (int)e; /* wasi-libc's numbers are the host's */
	return -1;
}

/* outgoing makes an address for the host, and returns its port or -1. */
static int outgoing(const struct sockaddr *sa, socklen_t size, uint8_t buf[HOST_ADDRESS]) {
	memset(buf, 0, HOST_ADDRESS);
	if (sa == NULL || size < sizeof sa->sa_family)
		return errno = EINVAL, -1;
	buf[0] = (uint8_t)sa->sa_family;
	if (sa->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const void *)sa;
		memcpy(buf + 2, &in->sin_addr, 4);
		return ntohs(in->sin_port);
	}
	if (sa->sa_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 = (const void *)sa;
		memcpy(buf + 2, &in6->sin6_addr, 16);
		return ntohs(in6->sin6_port);
	}
	if (sa->sa_family == AF_UNIX) {
		const struct sockaddr_un *un = (const void *)sa;
		size_t most = size - offsetof(struct sockaddr_un, sun_path);
		size_t n = size > offsetof(struct sockaddr_un, sun_path) ? strnlen(un->sun_path, most) : 0;
		if (n > sizeof un->sun_path)
			return errno = ENAMETOOLONG, -1;
		memcpy(buf + 2, un->sun_path, n);
		return 0;
	}
	return errno = EAFNOSUPPORT, -1;
}

/* incoming gives the program an address of the host, cut to its size. */
static void incoming(const uint8_t buf[HOST_ADDRESS], uint32_t port, struct sockaddr *sa, socklen_t *size) {
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} a;
	socklen_t n = sizeof(sa_family_t);
	if (sa == NULL || size == NULL)
		return;
	memset(&a, 0, sizeof a);
	switch (buf[0]) {
	case AF_INET:
		a.in.sin_port = htons((uint16_t)port);
		memcpy(&a.in.sin_addr, buf + 2, 4);
		n = sizeof a.in;
		break;
	case AF_INET6:
		a.in6.sin6_port = htons((uint16_t)port);
		memcpy(&a.in6.sin6_addr, buf + 2, 16);
		n = sizeof a.in6;
		break;
	case AF_UNIX:
		memcpy(a.un.sun_path, buf + 2, sizeof a.un.sun_path - 1);
		n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a.un.sun_path) + 1);
		break;
	}
	a.in.sin_family = buf[0];
	memcpy(sa, &a, n < *size ? n : *size);
	*size = n;
}

int socket(int family, int type, int protocol) {
	int32_t fd;
	int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (kind != SOCK_STREAM && kind != SOCK_DGRAM)
		return errno = EPROTONOSUPPORT, -1;
	if (family == AF_UNSPEC)
		return errno = EAFNOSUPPORT, -1;
	if (result(host_sock_open(family, kind == SOCK_STREAM ? HOST_STREAM : HOST_DGRAM, &fd)))
		return -1;
	if (type & SOCK_NONBLOCK && fcntl(fd, F_SETFL, O_NONBLOCK)) {
		int e = errno;
		close(fd);
		return errno = e, -1;
	}
	return fd;
}

int bind(int fd, const struct sockaddr *sa, socklen_t size) {
	uint8_t buf[HOST_ADDRESS];
	struct host_ref addr = {buf, sizeof buf};
	int port = outgoing(sa, size, buf);
	return port < 0 ? -1 : result(host_sock_bind(fd, &addr, (uint32_t)port));
}

int connect(int fd, const struct sockaddr *sa, socklen_t size) {
	uint8_t buf[HOST_ADDRESS];
	struct host_ref addr = {buf, sizeof buf};
	int port = outgoing(sa, size, buf);
	return port < 0 ? -1 : result(host_sock_connect(fd, &addr, (uint32_t)port));
}

int listen(int fd, int backlog) { return result(host_sock_listen(fd, backlog < 0 ? 0 : backlog)); }

static int name(int fd, uint32_t (*ask)(int32_t, struct host_ref *, uint32_t *), struct sockaddr *sa, socklen_t *size) {
	uint8_t buf[HOST_ADDRESS] = {0};
	struct host_ref addr = {buf, sizeof buf};
	uint32_t port = 0;
	if (result(ask(fd, &addr, &port)))
		return -1;
	incoming(buf, port, sa, size);
	return 0;
}

int getsockname(int fd, struct sockaddr *restrict sa, socklen_t *restrict size) { return name(fd, host_sock_getlocaladdr, sa, size); }
int getpeername(int fd, struct sockaddr *restrict sa, socklen_t *restrict size) { return name(fd, host_sock_getpeeraddr, sa, size); }

int accept4(int fd, struct sockaddr *restrict sa, socklen_t *restrict size, int flags) {
	int32_t conn;
	if (result(host_sock_accept(fd, flags & SOCK_NONBLOCK ? FDFLAG_NONBLOCK : 0, &conn)))
		return -1;
	/* The peer may be gone already; its connection is there all the same. */
	if (sa != NULL && size != NULL && getpeername(conn, sa, size))
		*size = 0;
	return conn;
}

int accept(int fd, struct sockaddr *restrict sa, socklen_t *restrict size) { return accept4(fd, sa, size, 0); }

ssize_t sendto(int fd, const void *p, size_t n, int flags, const struct sockaddr *sa, socklen_t size) {
	uint8_t buf[HOST_ADDRESS];
	struct host_ref addr = {buf, sizeof buf}, data = {p, (uint32_t)n};
	uint32_t sent;
	int port;
	if (sa == NULL)
		return send(fd, p, n, flags);
	port = outgoing(sa, size, buf);
	if (port < 0 || result(host_sock_send_to(fd, &data, 1, &addr, (uint32_t)port, (uint32_t)flags, &sent)))
		return -1;
	return (ssize_t)sent;
}

ssize_t recvfrom(int fd, void *restrict p, size_t n, int flags, struct sockaddr *restrict sa, socklen_t *restrict size) {
	uint8_t buf[HOST_ADDRESS] = {0};
	struct host_ref addr = {buf, sizeof buf}, data = {p, (uint32_t)n};
	uint32_t port = 0, got;
	uint16_t oflags;
	if (result(host_sock_recv_from(fd, &data, 1, &addr, (uint32_t)flags, &port, &got, &oflags)))
		return -1;
	if (buf[0] != 0)
		incoming(buf, port, sa, size);
	else if (size != NULL)
		*size = 0; /* a stream's messages have no sender */
	return (ssize_t)got;
}
