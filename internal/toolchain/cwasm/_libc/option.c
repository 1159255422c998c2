/* Socket options: of SOL_SOCKET the host has numbers of its own, else Linux's. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "host.h"

enum { HOST_TYPE = 1 };

static int host_option(int name) {
	switch (name) {
	case SO_REUSEADDR:
		return 0;
	case SO_TYPE:
		return HOST_TYPE;
	case SO_ERROR:
		return 2;
	case SO_DONTROUTE:
		return 3;
	case SO_BROADCAST:
		return 4;
	case SO_SNDBUF:
		return 5;
	case SO_RCVBUF:
		return 6;
	case SO_KEEPALIVE:
		return 7;
	case SO_OOBINLINE:
		return 8;
	case SO_LINGER:
		return 9;
	case SO_RCVLOWAT:
		return 10;
	case SO_RCVTIMEO:
		return 11;
	case SO_SNDTIMEO:
		return 12;
	case SO_ACCEPTCONN:
		return 13;
	case SO_BINDTODEVICE:
		return 14;
	}
	return -1;
}

static int translate(int *level, int *name) {
	if (*level == IPPROTO_IP) /* the host's number of SOL_SOCKET */
		return errno = ENOPROTOOPT, -1;
	if (*level != SOL_SOCKET)
		return 0;
	*level = 0;
	*name = host_option(*name);
	if (*name < 0)
		return errno = ENOPROTOOPT, -1;
	return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
	uint32_t e;
	if (translate(&level, &name))
		return -1;
	e = host_sock_setsockopt(fd, (uint32_t)level, (uint32_t)name, value, size);
	/* Serving both families is what the host does by itself. */
	if (e == ENOPROTOOPT && level == IPPROTO_IPV6 && name == IPV6_V6ONLY && size >= sizeof(int) && *(const int *)value == 0)
		e = 0;
	return e ? (errno = (int)e, -1) : 0;
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict size) {
	/* The host takes the length as it is. What is larger than any option would look like a pointer to it. */
	union {
		int number;
		char bytes[16];
	} v = {0};
	uint32_t e, n = *size < sizeof v ? *size : sizeof v;
	if (translate(&level, &name))
		return -1;
	e = host_sock_getsockopt(fd, (uint32_t)level, (uint32_t)name, &v, n);
	if (e)
		return errno = (int)e, -1;
	if (level == 0 && name == HOST_TYPE)
		v.number = v.number == HOST_DGRAM ? SOCK_DGRAM : SOCK_STREAM;
	if (n > sizeof(int) && !(level == 0 && name >= 9 && name <= 12 && name != 10))
		n = sizeof(int);
	memcpy(value, &v, n);
	*size = n;
	return 0;
}
