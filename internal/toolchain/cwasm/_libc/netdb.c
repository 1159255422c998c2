/* Names and addresses, by the host's resolver. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define MOST 16

/* Results of sock_getaddrinfo that are no errno. */
enum { INFO_AGAIN = 78, INFO_NONAME = 84, INFO_SERVICE = 85 };

struct answer {
	struct host_info info;
	struct host_sockaddr addr;
	uint8_t data[26]; /* the port, and for IPv6 the flow, the address and the zone */
};

struct block {
	struct addrinfo info;
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} addr;
};

static struct block *block_of(const struct answer *a, int socktype) {
	struct block *b = calloc(1, sizeof *b);
	if (b == NULL)
		return NULL;
	b->info.ai_family = a->info.family;
	b->info.ai_socktype = socktype;
	b->info.ai_protocol = socktype == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
	b->info.ai_addr = (struct sockaddr *)&b->addr;
	if (a->info.family == AF_INET) {
		b->info.ai_addrlen = sizeof b->addr.in;
		b->addr.in.sin_family = AF_INET;
		memcpy(&b->addr.in.sin_port, a->data, 2);
		memcpy(&b->addr.in.sin_addr, a->data + 2, 4);
	} else {
		b->info.ai_addrlen = sizeof b->addr.in6;
		b->addr.in6.sin6_family = AF_INET6;
		memcpy(&b->addr.in6.sin6_port, a->data, 2);
		memcpy(&b->addr.in6.sin6_addr, a->data + 6, 16);
	}
	return b;
}

static int failed(uint32_t e) {
	switch (e) {
	case INFO_AGAIN:
		return EAI_AGAIN;
	case INFO_NONAME:
		return EAI_NONAME;
	case INFO_SERVICE:
		return EAI_SERVICE;
	case EAFNOSUPPORT:
		return EAI_FAMILY;
	}
	if (e > 76)
		return EAI_FAIL;
	errno = (int)e;
	return EAI_SYSTEM;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict want, struct addrinfo **restrict list) {
	struct answer answers[MOST];
	struct host_info hints, *first = &answers[0].info;
	struct addrinfo **end = list;
	uint32_t e, count = 0;
	int socktype = want != NULL && want->ai_socktype != 0 ? want->ai_socktype : SOCK_STREAM;
	*list = NULL;
	if (node == NULL && service == NULL)
		return EAI_NONAME;
	if (socktype != SOCK_STREAM && socktype != SOCK_DGRAM)
		return EAI_SOCKTYPE;
	memset(&hints, 0, sizeof hints);
	memset(answers, 0, sizeof answers);
	hints.socktype = socktype == SOCK_DGRAM ? HOST_DGRAM : HOST_STREAM;
	if (want != NULL) {
		hints.family = (uint8_t)want->ai_family;
		hints.flags = (uint16_t)(want->ai_flags & (AI_PASSIVE | AI_NUMERICHOST));
	}
	for (int i = 0; i < MOST; i++) {
		answers[i].info.addr = &answers[i].addr;
		answers[i].info.next = i + 1 < MOST ? &answers[i + 1].info : NULL;
		answers[i].addr.data = answers[i].data;
		answers[i].addr.size = sizeof answers[i].data;
	}
	e = host_sock_getaddrinfo(node, node ? strlen(node) : 0, service, service ? strlen(service) : 0, &hints, &first, MOST, &count);
	if (e != 0)
		return failed(e);
	if (count == 0)
		return EAI_NONAME;
	for (uint32_t i = 0; i < count && i < MOST; i++) {
		struct block *b = block_of(&answers[i], socktype);
		if (b == NULL) {
			freeaddrinfo(*list);
			*list = NULL;
			return EAI_MEMORY;
		}
		*end = &b->info;
		end = &b->info.ai_next;
	}
	return 0;
}

void freeaddrinfo(struct addrinfo *list) {
	while (list != NULL) {
		struct addrinfo *next = list->ai_next;
		free(list); /* it is at the start of its block */
		list = next;
	}
}

const char *gai_strerror(int e) {
	switch (e) {
	case 0:
		return "success";
	case EAI_NONAME:
		return "no such name";
	case EAI_AGAIN:
		return "name servers do not answer";
	case EAI_FAMILY:
		return "no such address family";
	case EAI_SOCKTYPE:
		return "no such type of socket";
	case EAI_SERVICE:
		return "no such service";
	case EAI_MEMORY:
		return "out of memory";
	case EAI_OVERFLOW:
		return "buffer too small";
	case EAI_SYSTEM:
		return "system error";
	}
	return "look-up failed";
}

int getnameinfo(const struct sockaddr *restrict sa, socklen_t size, char *restrict host, socklen_t host_size, char *restrict service, socklen_t service_size, int flags) {
	const void *ip;
	unsigned port;
	if (sa->sa_family == AF_INET && size >= sizeof(struct sockaddr_in)) {
		ip = &((const struct sockaddr_in *)sa)->sin_addr;
		port = ntohs(((const struct sockaddr_in *)sa)->sin_port);
	} else if (sa->sa_family == AF_INET6 && size >= sizeof(struct sockaddr_in6)) {
		ip = &((const struct sockaddr_in6 *)sa)->sin6_addr;
		port = ntohs(((const struct sockaddr_in6 *)sa)->sin6_port);
	} else
		return EAI_FAMILY;
	if (flags & NI_NAMEREQD)
		return EAI_NONAME;
	if (host != NULL && host_size > 0 && inet_ntop(sa->sa_family, ip, host, host_size) == NULL)
		return EAI_OVERFLOW;
	if (service != NULL && service_size > 0 && (size_t)snprintf(service, service_size, "%u", port) >= service_size)
		return EAI_OVERFLOW;
	return 0;
}
