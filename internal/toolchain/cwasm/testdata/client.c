/* What else BSD sockets have: names, UDP, Unix sockets, options, errors. The arguments are HOST and PORT of an echo server, and a directory
 * for Unix sockets or nothing. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CHECK(x) do { if (!(x)) { fprintf(stderr, "line %d: %s: %s\n", __LINE__, #x, strerror(errno)); return 1; } } while (0)

static int echo(const char *host, const char *port) {
	struct addrinfo hints = {0}, *list;
	struct sockaddr_storage peer;
	socklen_t size = sizeof peer;
	char name[NI_MAXHOST], number[NI_MAXSERV], buf[16];
	int fd, value;
	hints.ai_socktype = SOCK_STREAM;
	value = getaddrinfo(host, port, &hints, &list);
	if (value != 0)
		return fprintf(stderr, "getaddrinfo: %s\n", gai_strerror(value)), 1;
	fd = socket(list->ai_family, list->ai_socktype, list->ai_protocol);
	CHECK(fd >= 0);
	CHECK(connect(fd, list->ai_addr, list->ai_addrlen) == 0);
	freeaddrinfo(list);
	CHECK(getpeername(fd, (struct sockaddr *)&peer, &size) == 0);
	CHECK(getnameinfo((struct sockaddr *)&peer, size, name, sizeof name, number, sizeof number, NI_NUMERICHOST) == 0);
	CHECK(strcmp(number, port) == 0);
	CHECK(write(fd, "hello", 5) == 5);
	CHECK(read(fd, buf, sizeof buf) == 5 && memcmp(buf, "hello", 5) == 0);
	size = sizeof value;
	CHECK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == SOCK_STREAM);
	CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &size) == 0 && value == 0);
	CHECK(shutdown(fd, SHUT_WR) == 0);
	CHECK(recv(fd, buf, sizeof buf, 0) == 0);
	CHECK(close(fd) == 0);
	return 0;
}

static int datagrams(void) {
	struct sockaddr_in sa = {0}, from;
	struct timeval limit = {0, 50000};
	socklen_t size = sizeof sa;
	char buf[16];
	int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
	CHECK(a >= 0 && b >= 0);
	sa.sin_family = AF_INET;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(a, (struct sockaddr *)&sa, sizeof sa) == 0);
	CHECK(getsockname(a, (struct sockaddr *)&sa, &size) == 0);
	CHECK(sendto(b, "one", 3, 0, (struct sockaddr *)&sa, sizeof sa) == 3);
	size = sizeof from;
	CHECK(recvfrom(a, buf, sizeof buf, 0, (struct sockaddr *)&from, &size) == 3);
	CHECK(size == sizeof from && from.sin_family == AF_INET && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	CHECK(sendto(a, "two", 3, 0, (struct sockaddr *)&from, size) == 3);
	CHECK(recv(b, buf, sizeof buf, 0) == 3);
	CHECK(setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
	CHECK(recv(a, buf, sizeof buf, 0) < 0 && errno == EAGAIN);
	CHECK(close(a) == 0 && close(b) == 0);
	return 0;
}

static int errors(void) {
	struct sockaddr_in sa = {0};
	struct pollfd p;
	socklen_t size = sizeof sa;
	int value, fd = socket(AF_INET, SOCK_STREAM, 0), gone = socket(AF_INET, SOCK_STREAM, 0);
	sa.sin_family = AF_INET;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* A port that is bound but does not listen refuses. */
	CHECK(bind(gone, (struct sockaddr *)&sa, sizeof sa) == 0);
	CHECK(getsockname(gone, (struct sockaddr *)&sa, &size) == 0);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 && errno == ECONNREFUSED);
	close(fd);
	/* The same without waiting. */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 && errno == EINPROGRESS) {
		p.fd = fd, p.events = POLLOUT;
		CHECK(poll(&p, 1, 5000) == 1);
		size = sizeof value;
		CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &size) == 0 && value == ECONNREFUSED);
	} else
		CHECK(errno == ECONNREFUSED);
	close(fd);
	CHECK(bind(1, (struct sockaddr *)&sa, sizeof sa) < 0 && errno == ENOTSOCK);
	CHECK(setsockopt(gone, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value) < 0 && errno == ENOPROTOOPT);
	sa.sin_family = 77;
	CHECK(connect(gone, (struct sockaddr *)&sa, sizeof sa) < 0 && errno == EAFNOSUPPORT);
	close(gone);
	return 0;
}

static int local(const char *dir) {
	struct sockaddr_un sa = {0}, got = {0};
	socklen_t size = sizeof got;
	char buf[8];
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), s;
	sa.sun_family = AF_UNIX;
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s/c.sock", dir);
	CHECK(bind(l, (struct sockaddr *)&sa, sizeof sa) == 0);
	CHECK(listen(l, 1) == 0);
	CHECK(connect(c, (struct sockaddr *)&sa, sizeof sa) == 0);
	CHECK((s = accept(l, NULL, NULL)) >= 0);
	CHECK(getsockname(s, (struct sockaddr *)&got, &size) == 0 && strcmp(got.sun_path, sa.sun_path) == 0);
	CHECK(send(c, "local", 5, 0) == 5 && recv(s, buf, sizeof buf, 0) == 5);
	return close(l) || close(c) || close(s);
}

int main(int argc, char **argv) {
	if (argc < 3)
		return 2;
	if (echo(argv[1], argv[2]) || datagrams() || errors())
		return 1;
	if (argc > 3 && local(argv[3]))
		return 1;
	puts("ok");
	return 0;
}
