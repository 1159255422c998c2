/* memory grows its linear memory page by page, touching each, and says how far it came: exit code 3 when the
 * host refuses more, 0 when it reached the number of MiB in its first argument (4096 if there is none). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where every block goes, so that no compiler leaves the work out. */
static char *volatile kept;

int main(int argc, char **argv)
{
	long limit = argc > 1 ? atol(argv[1]) : 4096;
	for (long mib = 0; mib < limit; mib++) {
		char *block = malloc(1 << 20);
		if (!block) {
			fprintf(stderr, "refused after %ld MiB\n", mib);
			return 3;
		}
		memset(block, 1, 1 << 20);
		kept = block;
	}
	printf("reached %ld MiB\n", limit);
	return 0;
}
