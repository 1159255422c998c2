/* exhaust takes all there is of one thing, or asks for more than there can be. Its argument says of what. Exit code 0
 * when the host refused in the documented way, and the guest is still fine afterwards; 9 and a word when not. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <wasi/api.h>

#define HOST(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
HOST(sock_open) int sock_open(int family, int type, int *fd);
/* The raw calls, so that nothing of libc looks at the arguments first. */
HOST(fd_write) int raw_write(int fd, uint32_t iovs, uint32_t n, uint32_t result);
HOST(fd_read) int raw_read(int fd, uint32_t iovs, uint32_t n, uint32_t result);
HOST(fd_pread) int raw_pread(int fd, uint32_t iovs, uint32_t n, uint64_t at, uint32_t result);
HOST(fd_pwrite) int raw_pwrite(int fd, uint32_t iovs, uint32_t n, uint64_t at, uint32_t result);
HOST(fd_readdir) int raw_readdir(int fd, uint32_t buf, uint32_t n, uint64_t cookie, uint32_t result);
HOST(random_get) int raw_random(uint32_t p, uint32_t n);
HOST(poll_oneoff) int raw_poll(uint32_t in, uint32_t out, uint32_t n, uint32_t result);
HOST(path_open) int raw_open(int fd, int look, uint32_t path, uint32_t n, int o, uint64_t base, uint64_t inherit, int flags, uint32_t result);
HOST(path_symlink) int raw_symlink(uint32_t old, uint32_t nold, int fd, uint32_t name, uint32_t nname);
HOST(path_readlink) int raw_readlink(int fd, uint32_t path, uint32_t n, uint32_t buf, uint32_t nbuf, uint32_t result);
HOST(path_filestat_get) int raw_stat(int fd, int flags, uint32_t path, uint32_t n, uint32_t result);
HOST(fd_filestat_get) int raw_fstat(int fd, uint32_t result);
HOST(fd_prestat_get) int raw_prestat(int fd, uint32_t result);
HOST(fd_prestat_dir_name) int raw_prestat_name(int fd, uint32_t p, uint32_t n);
HOST(fd_allocate) int raw_allocate(int fd, uint64_t at, uint64_t n);
HOST(fd_filestat_set_size) int raw_truncate(int fd, uint64_t n);
HOST(fd_seek) int raw_seek(int fd, uint64_t by, int whence, uint32_t result);
HOST(args_get) int raw_args(uint32_t argv, uint32_t buf);
HOST(environ_get) int raw_environ(uint32_t env, uint32_t buf);
HOST(clock_time_get) int raw_clock(int id, uint64_t precision, uint32_t result);
HOST(sock_recv) int raw_recv(int fd, uint32_t iovs, uint32_t n, int flags, uint32_t got, uint32_t oflags);
HOST(sock_send) int raw_send(int fd, uint32_t iovs, uint32_t n, int flags, uint32_t sent);

#define P(x) ((uint32_t)(uintptr_t)(x))
#define CHECK(ok) do { if (!(ok)) { printf("line %d: %s (errno %d)\n", __LINE__, #ok, errno); return 9; } } while (0)

static const char *volume = "/v";

static int fds(void)
{
	static int open_fds[1 << 17];
	int n = 0, again = 0;
	while (n < 1 << 17 && (open_fds[n] = open("/v/file", O_RDONLY)) >= 0)
		n++;
	CHECK(n > 100 && n <= 65536 && errno == EMFILE);
	int d = open(volume, O_RDONLY | O_DIRECTORY);
	CHECK(d < 0 && errno == EMFILE);
	for (int i = 0; i < n; i++)
		CHECK(close(open_fds[i]) == 0);
	while (again < 100 && open("/v/file", O_RDONLY) >= 0)
		again++;
	CHECK(again == 100);
	printf("%d descriptors\n", n);
	return 0;
}

static int sockets(void)
{
	int fd, e = 0, n = 0;
	while (n < 1 << 17 && !(e = sock_open(1, 2, &fd)))
		n++;
	CHECK(n > 100 && e == __WASI_ERRNO_MFILE);
	CHECK(open("/v/file", O_RDONLY) < 0 && errno == EMFILE);
	CHECK(close(fd) == 0 && sock_open(2, 1, &fd) == 0);
	printf("%d sockets\n", n);
	return 0;
}

static int polls(void)
{
	static __wasi_subscription_t in[70000];
	static __wasi_event_t out[70000];
	__wasi_size_t got;
	for (unsigned i = 0; i < 70000; i++) {
		in[i].userdata = i;
		switch (i % 4) {
		case 0: /* a clock that is due */
			in[i].u.tag = __WASI_EVENTTYPE_CLOCK;
			in[i].u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
			break;
		case 1:
			in[i].u.tag = __WASI_EVENTTYPE_FD_READ;
			in[i].u.u.fd_read.file_descriptor = i % 5;
			break;
		case 2:
			in[i].u.tag = __WASI_EVENTTYPE_FD_WRITE;
			in[i].u.u.fd_write.file_descriptor = i % 5;
			break;
		default: /* no such descriptor */
			in[i].u.tag = __WASI_EVENTTYPE_FD_READ;
			in[i].u.u.fd_read.file_descriptor = i * 1000003;
		}
	}
	CHECK(raw_poll(P(in), P(out), 65537, P(&got)) == __WASI_ERRNO_INVAL);
	CHECK(raw_poll(P(in), P(out), 0, P(&got)) == __WASI_ERRNO_INVAL);
	CHECK(raw_poll(P(in), P(out), 0xffffffff, P(&got)) != 0);
	for (int round = 0; round < 100; round++) {
		CHECK(raw_poll(P(in), P(out), 65536, P(&got)) == 0);
		CHECK(got > 32000 && got <= 65536);
	}
	for (unsigned i = 0; i < 70000; i++)
		in[i].u.tag = 77;
	CHECK(raw_poll(P(in), P(out), 65536, P(&got)) == __WASI_ERRNO_INVAL);
	puts("polled");
	return 0;
}

/* edges points at the end of memory and beyond, and asks for sizes that overflow. Every call must return. */
static int edges(void)
{
	uint32_t end = (uint32_t)__builtin_wasm_memory_size(0) << 16; /* 0 at 4 GiB; this guest is smaller */
	uint32_t spots[] = {end, end - 1, end - 3, end - 7, end - 8, end + 1, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff};
	uint32_t sizes[] = {1, 8, 9, 64, 0x10000, 0x1fffffff, 0x20000000, 0x20000001, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
	int dir = open(volume, O_RDONLY | O_DIRECTORY), file = open("/v/scratch", O_RDWR | O_CREAT | O_TRUNC, 0666);
	uint64_t all = ~0ull >> 34;
	CHECK(dir >= 0 && file >= 0);
	for (unsigned i = 0; i < sizeof spots / sizeof *spots; i++) {
		uint32_t p = spots[i];
		int beyond = p >= end;
		for (unsigned j = 0; j < sizeof sizes / sizeof *sizes; j++) {
			uint32_t n = sizes[j];
			int over = beyond || (uint64_t)p + n > end;
			/* What is within memory may succeed; that it returns is all. */
			CHECK(raw_write(file, p, n, p) != 0 || !beyond);
			CHECK(raw_read(file, p, n, p) != 0 || !beyond);
			CHECK(raw_pwrite(file, p, n, 0, p) != 0 || !beyond);
			CHECK(raw_pread(file, p, n, 0, p) != 0 || !beyond);
			CHECK(raw_write(file, p, n, end) != 0);
			CHECK(raw_random(p, n) == __WASI_ERRNO_FAULT || !over);
			CHECK(raw_poll(p, p, n, p) != 0);
			CHECK(raw_readdir(dir, p, n, 0, p) != 0 || !over);
			CHECK(raw_symlink(p, n, dir, p, n) != 0 || !over);
			CHECK(raw_readlink(dir, p, n, p, n, p) != 0 || !over);
			CHECK(raw_stat(dir, 1, p, n, p) != 0);
			CHECK(raw_open(dir, 1, p, n, 0, all, all, 0, p) != 0 || !over);
			CHECK(raw_recv(file, p, n, 0, p, p) != 0 && raw_send(file, p, n, 0, p) != 0);
			CHECK(raw_prestat_name(3, p, n) != 0 || !beyond);
		}
		CHECK(raw_fstat(file, p) == __WASI_ERRNO_FAULT);
		CHECK(raw_prestat(3, p) == __WASI_ERRNO_FAULT || p == end - 8);
		CHECK(raw_clock(1, 0, p) == __WASI_ERRNO_FAULT || p == end - 8);
		CHECK(raw_args(p, p) == __WASI_ERRNO_FAULT || !beyond);
		(void)raw_environ(p, p);
	}
	struct stat st;
	CHECK(fstat(file, &st) == 0 && st.st_size < 1 << 20);
	puts("refused");
	return 0;
}

/* vectors: ten thousand that overlap, and one good among bad ones. */
static int vectors(void)
{
	static struct { uint32_t p, n; } v[10000];
	static char data[65536];
	__wasi_size_t got;
	int file = open("/v/scratch", O_RDWR | O_CREAT | O_TRUNC, 0666);
	CHECK(file >= 0);
	for (int i = 0; i < 10000; i++)
		v[i].p = P(data), v[i].n = sizeof data;
	CHECK(raw_write(file, P(v), 10000, P(&got)) == 0 && got > 0);
	CHECK(raw_pread(file, P(v), 10000, 0, P(&got)) == 0 && got > 0);
	/* Vectors that are read into themselves. */
	CHECK(raw_pread(file, P(v), 10000, 0, P(v)) == 0);
	v[0].p = P(v), v[0].n = sizeof v;
	CHECK(raw_pread(file, P(v), 1000, 0, P(&got)) == 0);
	for (int i = 0; i < 10000; i++)
		v[i].p = 0xffffff00, v[i].n = i % 2 ? 0 : 0xffffffff;
	CHECK(raw_write(file, P(v), 10000, P(&got)) == __WASI_ERRNO_FAULT);
	for (int i = 0; i < 10000; i++)
		v[i].p = 0, v[i].n = 0;
	CHECK(raw_write(file, P(v), 10000, P(&got)) == 0 && got == 0);
	puts("written");
	return 0;
}

static int sizes(void)
{
	int file = open("/v/scratch", O_RDWR | O_CREAT | O_TRUNC, 0666);
	uint64_t at;
	CHECK(file >= 0);
	CHECK(raw_truncate(file, ~0ull) != 0 && raw_truncate(file, 1ull << 63) != 0);
	CHECK(raw_allocate(file, ~0ull, ~0ull) != 0 && raw_allocate(file, 1ull << 62, 1ull << 62) != 0);
	CHECK(raw_seek(file, 1ull << 63, 0, P(&at)) != 0 && raw_seek(file, -1ull, 0, P(&at)) != 0);
	CHECK(raw_random(0, 0xffffffff) == __WASI_ERRNO_FAULT);
	uint32_t path = P("file");
	CHECK(raw_open(4, 1, path, 0xffffffff, 0, 0, 0, 0, P(&at)) != 0);
	CHECK(raw_stat(3, 1, path, 0xffffffff, P(&at)) == __WASI_ERRNO_NAMETOOLONG);
	CHECK(raw_symlink(path, 0xffffffff, 3, path, 4) == __WASI_ERRNO_NAMETOOLONG);
	static char deep[4000];
	for (int i = 0; i < 3998; i += 2)
		deep[i] = 'd', deep[i + 1] = '/';
	CHECK(open("/v/link-to-itself", O_RDONLY) < 0);
	int dir = open(volume, O_RDONLY | O_DIRECTORY);
	CHECK(openat(dir, deep, O_RDONLY) < 0);
	puts("refused");
	return 0;
}

static int listing(void)
{
	static char buf[4096];
	__wasi_size_t got;
	int dir = open(volume, O_RDONLY | O_DIRECTORY);
	CHECK(dir >= 0);
	for (unsigned n = 0; n < 30; n++)
		CHECK(raw_readdir(dir, P(buf), n, 0, P(&got)) == 0 && got <= n);
	uint64_t cookies[] = {1, 2, 3, 1000000, 1ull << 31, 1ull << 32, 1ull << 62, 1ull << 63, ~0ull};
	for (unsigned i = 0; i < sizeof cookies / sizeof *cookies; i++) {
		int e = raw_readdir(dir, P(buf), sizeof buf, cookies[i], P(&got));
		CHECK(e != 0 || got <= sizeof buf);
	}
	/* The directory changes all the time it is read. */
	char name[64];
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof name, "/v/n%d", i);
		int fd = open(name, O_WRONLY | O_CREAT, 0666);
		CHECK(fd >= 0);
		close(fd);
		uint64_t cookie = (uint64_t)i * 7;
		(void)raw_readdir(dir, P(buf), 100, cookie, P(&got));
		if (i > 10) {
			snprintf(name, sizeof name, "/v/n%d", i - 10);
			CHECK(unlink(name) == 0);
		}
	}
	for (int i = 0; i < 20000; i++)
		CHECK(raw_readdir(dir, P(buf), sizeof buf, 0, P(&got)) == 0);
	puts("listed");
	return 0;
}

/* flood writes its second argument's number of MiB to stdout. */
static int flood(long mib)
{
	static char block[1 << 20];
	memset(block, 'x', sizeof block);
	for (long i = 0; i < mib; i++)
		for (size_t done = 0; done < sizeof block;) {
			ssize_t n = write(1, block + done, sizeof block - done);
			if (n < 0) {
				fprintf(stderr, "errno %d after %ld MiB\n", errno, i);
				return errno == EPIPE ? 3 : 9;
			}
			done += n;
		}
	return 0;
}

static int arguments(int argc, char **argv)
{
	size_t n = 0;
	for (int i = 0; i < argc; i++)
		n += strlen(argv[i]) + 1;
	extern char **environ;
	for (char **e = environ; e && *e; e++)
		n += strlen(*e) + 1;
	printf("%zu bytes\n", n);
	return 0;
}

static __attribute__((noinline)) int leave(int depth, int code)
{
	volatile int d = depth;
	if (d == 0)
		__wasi_proc_exit(code);
	return leave(d - 1, code) + d;
}

/* special opens what is not a file: whether it may is the second argument. */
static int special(const char *path, const char *verdict)
{
	char b[16] = "x";
	int fd = open(path, O_RDWR);
	if (fd < 0)
		fd = open(path, O_RDONLY);
	if (!strcmp(verdict, "no")) {
		CHECK(fd < 0);
		CHECK(errno != ENOENT);
		return 0;
	}
	CHECK(fd >= 0);
	(void)!write(fd, b, 1);
	(void)!read(fd, b, sizeof b);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "fds")) return fds();
	if (!strcmp(what, "sockets")) return sockets();
	if (!strcmp(what, "polls")) return polls();
	if (!strcmp(what, "edges")) return edges();
	if (!strcmp(what, "vectors")) return vectors();
	if (!strcmp(what, "sizes")) return sizes();
	if (!strcmp(what, "listing")) return listing();
	if (!strcmp(what, "flood")) return flood(atol(argv[2]));
	if (!strcmp(what, "arguments")) return arguments(argc, argv);
	if (!strcmp(what, "leave")) return leave(atoi(argv[2]), atoi(argv[3]));
	if (!strcmp(what, "special")) return special(argv[2], argv[3]);
	fprintf(stderr, "usage: exhaust WHAT\n");
	return 64;
}
