/* escape tries every call that takes a path on the paths it is given, each of which leads out of its volume or
 * would if links were followed. What it can read it prints; what it changes the test finds outside.
 *
 *   escape VOLUME SECRET PATH...     PATH relative to VOLUME; SECRET is the text that must not appear
 *
 * Exit code 0 when no path gave the secret away, 9 when one did. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>

static int escaped;

static void leak(const char *how, const char *path)
{
	printf("escaped: %s %s\n", how, path);
	escaped = 1;
}

static void try_read(int dir, const char *path, int flags, const char *secret)
{
	char text[4096];
	int fd = openat(dir, path, flags);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n > 0) {
		text[n] = 0;
		if (strstr(text, secret))
			leak("read", path);
	}
}

static void try_list(int dir, const char *path)
{
	int fd = openat(dir, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return;
	DIR *d = fdopendir(fd);
	for (struct dirent *e; d && (e = readdir(d));)
		if (!strcmp(e->d_name, "outside-marker"))
			leak("listed", path);
	if (d)
		closedir(d);
}

/* change leaves marks; nothing it does is checked here. */
static void change(int dir, const char *path)
{
	char name[512];
	struct timespec old[2] = {{1, 0}, {1, 0}};
	int fd;

	for (int flags = 0; flags < 4; flags++) {
		fd = openat(dir, path, O_RDWR | (flags & 1 ? O_TRUNC : 0) | (flags & 2 ? O_CREAT : 0), 0666);
		if (fd >= 0) {
			(void)!write(fd, "planted", 7);
			ftruncate(fd, 3);
			close(fd);
		}
	}
	snprintf(name, sizeof name, "%s/planted", path);
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0666);
	if (fd >= 0)
		close(fd);
	snprintf(name, sizeof name, "%s/made", path);
	mkdirat(dir, name, 0777);
	symlinkat("anywhere", dir, name);
	linkat(dir, "own", dir, name, 0);
	renameat(dir, "spare", dir, name);
	snprintf(name, sizeof name, "%s/victim", path);
	unlinkat(dir, name, 0);
	unlinkat(dir, name, AT_REMOVEDIR);
	renameat(dir, name, dir, "taken");
	linkat(dir, name, dir, "linked", 0);
	utimensat(dir, name, old, 0);
	utimensat(dir, path, old, 0);
	/* The name itself, as the source: the link may go, its target may not. */
	linkat(dir, path, dir, "linked2", 0);
	linkat(dir, path, dir, "linked3", AT_SYMLINK_FOLLOW);
	__wasi_errno_t e = __wasi_path_link(dir, 1, path, dir, "linked4");
	(void)e;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: escape VOLUME SECRET PATH...\n");
		return 64;
	}
	int dir = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (dir < 0) {
		perror(argv[1]);
		return 1;
	}
	for (int i = 3; i < argc; i++) {
		struct stat st;
		try_read(dir, argv[i], O_RDONLY, argv[2]);
		try_read(dir, argv[i], O_RDWR, argv[2]);
		try_read(dir, argv[i], O_RDONLY | O_NOFOLLOW, argv[2]);
		try_list(dir, argv[i]);
		if (fstatat(dir, argv[i], &st, 0) == 0 && st.st_size == 4242)
			leak("measured", argv[i]);
		change(dir, argv[i]);
	}
	/* What linking brought in, if it did. */
	const char *got[] = {"taken", "linked", "linked2", "linked3", "linked4"};
	for (unsigned i = 0; i < sizeof got / sizeof *got; i++)
		try_read(dir, got[i], O_RDONLY, argv[2]);
	printf("tried %d paths\n", argc - 3);
	return escaped ? 9 : 0;
}
