/* spin says that it is there and never calls the host again. */
#include <stdio.h>

int main(void)
{
	puts("spinning");
	fflush(stdout);
	for (volatile unsigned i = 0;; i++)
		;
}
