/* tour uses what an ordinary program uses, and says how it went; see tour_test.go for what it has to say. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double since(clockid_t id, struct timespec a)
{
	struct timespec b;
	clock_gettime(id, &b);
	return (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) * 1e-9;
}

int main(int argc, char **argv)
{
	char line[256], text[256];
	printf("args:");
	for (int i = 1; i < argc; i++)
		printf(" [%s]", argv[i]);
	const char *greeting = getenv("GREETING");
	printf("\nenv: %s\n", greeting ? greeting : "none");

	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		printf("stdin: %s\n", line);
	}

	FILE *f = fopen("/data/tour.txt", "w");
	if (!f || fputs("written by the guest", f) < 0 || fclose(f))
		return perror("/data/tour.txt"), 1;
	f = fopen("/data/tour.txt", "r");
	if (!f || !fgets(text, sizeof text, f) || fclose(f))
		return perror("/data/tour.txt"), 1;
	printf("file: %s\n", text);
	f = fopen("/etc/passwd", "r");
	printf("outside: %s\n", f ? "open" : "closed");

	int entries = 0;
	DIR *d = opendir("/data");
	for (struct dirent *e; d && (e = readdir(d));)
		entries += e->d_name[0] != '.';
	if (!d || closedir(d))
		return perror("/data"), 1;
	printf("entries: %d\n", entries);

	struct timespec mono, pause = {0, 20000000};
	clock_gettime(CLOCK_MONOTONIC, &mono);
	nanosleep(&pause, NULL);
	double slept = since(CLOCK_MONOTONIC, mono);
	printf("clock: %s\n", time(NULL) > 1700000000 && slept >= 0.02 && slept < 5 ? "ok" : "wrong");
	fprintf(stderr, "bye\n");
	return 7;
}
