/* symlink looks for a way out of its directory: through links it makes itself, absolute and relative, and
 * through "..". Arguments: a writable directory of its own, and a file outside of it that it must not read.
 * Exit code 0 when every way is closed; 9 when the file was read, and its first line on stdout. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int try_open(const char *path)
{
	char line[256];
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, line, sizeof line - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = 0;
	printf("escaped through %s: %s\n", path, line);
	return 1;
}

int main(int argc, char **argv)
{
	char link[512], target[512];
	int out = 0;
	if (argc != 3) {
		fprintf(stderr, "usage: symlink DIR FILE\n");
		return 64;
	}
	const char *dir = argv[1], *file = argv[2];

	snprintf(link, sizeof link, "%s/absolute", dir);
	if (symlink(file, link) == 0)
		out |= try_open(link);

	snprintf(target, sizeof target, "../../../../../../../../../..%s", file);
	snprintf(link, sizeof link, "%s/relative", dir);
	if (symlink(target, link) == 0)
		out |= try_open(link);

	/* A directory link and then a name below it: a check of the last component alone is not enough. */
	snprintf(link, sizeof link, "%s/up", dir);
	if (symlink("../../../../../../../../../..", link) == 0) {
		snprintf(target, sizeof target, "%s/up%s", dir, file);
		out |= try_open(target);
	}

	snprintf(target, sizeof target, "%s/../../../../../../../../../..%s", dir, file);
	out |= try_open(target);
	return out ? 9 : 0;
}
