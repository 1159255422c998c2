#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Says where it is, and whether a relative name is found there. */
int main(int argc, char **argv) {
	char dir[4096];
	if (argc != 2 || !getcwd(dir, sizeof dir))
		return 1;
	int fd = open(argv[1], O_RDONLY);
	printf("%s %s\n", dir, fd < 0 ? "no file" : "file");
	return 0;
}
