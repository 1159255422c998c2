// A server without an event loop: it accepts, reads and writes, blocking each time.
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
	setvbuf(stdout, NULL, _IONBF, 0);
	FILE *f = fopen("/greeting", "r");
	char greeting[64] = "";
	if (!f || !fgets(greeting, sizeof greeting, f)) {
		perror("greeting");
		return 1;
	}
	fclose(f);
	printf("serving %s\n", isatty(1) ? "a terminal" : "a pipe");
	for (;;) {
		int c = accept(3, NULL, NULL);
		if (c < 0) {
			perror("accept");
			return 1;
		}
		char line[128];
		ssize_t n = recv(c, line, sizeof line, 0);
		if (n >= 4 && !memcmp(line, "quit", 4))
			return 7;
		if (n > 0) {
			send(c, greeting, strlen(greeting), 0);
			send(c, line, n, 0);
		}
		shutdown(c, SHUT_WR);
		close(c);
	}
}
