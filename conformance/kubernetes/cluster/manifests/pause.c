/* pause keeps a pod's namespaces alive under runc, reaps orphans and ends when asked. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int sig) { _exit(sig == SIGTERM || sig == SIGINT ? 0 : 1); }

static void reap(int sig)
{
	(void)sig;
	while (waitpid(-1, 0, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction on_end = {.sa_handler = end}, on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
	sigaction(SIGTERM, &on_end, 0);
	sigaction(SIGINT, &on_end, 0);
	sigaction(SIGCHLD, &on_child, 0);
	for (;;)
		pause();
}
