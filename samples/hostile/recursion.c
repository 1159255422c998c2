/* recursion calls itself until the engine's stack ends. The result is used, so that no compiler makes a loop of it. */
#include <stdio.h>

__attribute__((noinline)) static unsigned down(unsigned n)
{
	volatile char frame[64];
	frame[n % sizeof frame] = (char)n;
	return down(n + 1) + (unsigned char)frame[0];
}

int main(int argc, char **argv)
{
	(void)argv;
	printf("%u\n", down((unsigned)argc));
	return 0;
}
