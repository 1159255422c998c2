/* A program starts in the working directory of its container, as under Linux. WASI has none: the runtime names it in PWD,
 * and wasi-libc begins in the root. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void enter(void) {
	const char *dir = getenv("PWD");
	if (dir && *dir == '/')
		chdir(dir); /* one that is not there leaves it in the root */
}
