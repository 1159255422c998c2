// Six small computations for the overhead benchmark. Each takes a number of rounds and returns a checksum.
//   clang --target=wasm32 -O2 -fno-builtin -nostdlib -Wl,--no-entry -o kernels.wasm kernels.c
typedef unsigned char u8;
typedef unsigned int u32;
#define EXPORT(name) __attribute__((export_name(name)))

static u8 bytes[1 << 22];

static u32 rol(u32 x, int n) { return x << n | x >> (32 - n); }

// A block cipher's inner loop: registers, rotations, an unrolled round.
EXPORT("mix") u32 mix(u32 rounds) {
  u32 a = 1, b = 2, c = 3, d = 4;
  for (u32 i = 0; i < rounds; i++)
    for (int k = 0; k < 20; k++) {
      a += b; d = rol(d ^ a, 16);
      c += d; b = rol(b ^ c, 12);
      a += b; d = rol(d ^ a, 8);
      c += d; b = rol(b ^ c, 7);
    }
  return a ^ b ^ c ^ d;
}

EXPORT("sieve") u32 sieve(u32 rounds) {
  u32 primes = 0;
  while (rounds--) {
    for (u32 i = 0; i < sizeof bytes; i++) bytes[i] = 1;
    primes = 0;
    for (u32 i = 2; i < sizeof bytes; i++) {
      if (!bytes[i]) continue;
      primes++;
      for (u32 j = 2 * i; j < sizeof bytes; j += i) bytes[j] = 0;
    }
  }
  return primes;
}

// Float arithmetic over a few bodies.
static double at[4][3] = {{0, 0, 0}, {5, 1, 0}, {-8, 4, 1}, {2, -15, -1}}, speed[4][3];
EXPORT("bodies") u32 bodies(u32 rounds) {
  while (rounds--)
    for (int i = 0; i < 4; i++) {
      for (int j = 0; j < 4; j++) {
        if (i == j) continue;
        double d[3], r = 0.01;
        for (int k = 0; k < 3; k++) { d[k] = at[j][k] - at[i][k]; r += d[k] * d[k]; }
        r = 0.001 / (r * __builtin_sqrt(r));
        for (int k = 0; k < 3; k++) speed[i][k] += d[k] * r;
      }
      for (int k = 0; k < 3; k++) at[i][k] += speed[i][k];
    }
  return (u32)(long long)(at[0][0] * 1e6);
}

__attribute__((noinline)) static u32 fibonacci(u32 n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
EXPORT("fib") u32 fib(u32 n) { return fibonacci(n); }

static double left[100][100], right[100][100], product[100][100];
EXPORT("matrix") u32 matrix(u32 rounds) {
  for (int i = 0; i < 100; i++)
    for (int j = 0; j < 100; j++) { left[i][j] = i + j; right[i][j] = i - j; }
  while (rounds--)
    for (int i = 0; i < 100; i++)
      for (int j = 0; j < 100; j++) {
        double sum = 0;
        for (int k = 0; k < 100; k++) sum += left[i][k] * right[k][j];
        product[i][j] = sum;
      }
  return (u32)(long long)product[3][7];
}

// The shortest loop there is: one byte at a time.
EXPORT("sum") u32 sum(u32 rounds) {
  u32 s = 0;
  while (rounds--)
    for (u32 i = 0; i < 1 << 16; i++) s = s * 31 + bytes[i];
  return s;
}
