/* idle says that it runs and then waits: the smallest pod that stays. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("idle");
	fflush(stdout);
	for (;;)
		sleep(3600);
}
