/* trap executes the instruction "unreachable", three calls deep so that there is a stack to show. */
__attribute__((noinline)) static void innermost(volatile int *n)
{
	if (*n)
		__builtin_trap();
}

__attribute__((noinline)) static void middle(volatile int *n)
{
	innermost(n);
	(*n)++;
}

int main(void)
{
	volatile int n = 1;
	middle(&n);
	return 0;
}
