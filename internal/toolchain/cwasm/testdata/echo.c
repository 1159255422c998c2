/* A TCP echo server for many clients at once, as for any Unix. The port is the argument; it ends when a client says "quit". */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 64

static int die(const char *what) {
	perror(what);
	return 1;
}

int main(int argc, char **argv) {
	struct pollfd fds[CLIENTS + 1];
	struct sockaddr_in sa = {0};
	socklen_t size = sizeof sa;
	int n = 1, on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0)
		return die("socket");
	if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
		return die("setsockopt");
	sa.sin_family = AF_INET;
	sa.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&sa, sizeof sa))
		return die("bind");
	if (listen(listener, SOMAXCONN))
		return die("listen");
	if (getsockname(listener, (struct sockaddr *)&sa, &size))
		return die("getsockname");
	printf("127.0.0.1:%d\n", ntohs(sa.sin_port));
	fflush(stdout);

	fds[0].fd = listener;
	for (;;) {
		for (int i = 0; i < n; i++)
			fds[i].events = POLLIN;
		fds[0].events = n <= CLIENTS ? POLLIN : 0;
		if (poll(fds, (nfds_t)n, -1) < 0)
			return die("poll");
		for (int i = n - 1; i > 0; i--) {
			char buf[4096];
			ssize_t got;
			if (fds[i].revents == 0)
				continue;
			got = recv(fds[i].fd, buf, sizeof buf, 0);
			if (got >= 4 && memcmp(buf, "quit", 4) == 0)
				return 0;
			if (got <= 0 || send(fds[i].fd, buf, (size_t)got, MSG_NOSIGNAL) != got) {
				close(fds[i].fd);
				fds[i] = fds[--n];
			}
		}
		if (fds[0].revents) {
			struct sockaddr_in peer;
			char text[INET_ADDRSTRLEN];
			size = sizeof peer;
			int c = accept(listener, (struct sockaddr *)&peer, &size);
			if (c < 0)
				return die("accept");
			if (setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on))
				return die("TCP_NODELAY");
			if (peer.sin_family != AF_INET || inet_ntop(AF_INET, &peer.sin_addr, text, sizeof text) == NULL || strcmp(text, "127.0.0.1"))
				return fprintf(stderr, "a peer of no address\n"), 1;
			fds[n].fd = c;
			fds[n++].revents = 0;
		}
	}
}
