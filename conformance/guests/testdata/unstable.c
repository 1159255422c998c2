// A command for wasi_unstable, as compilers made them before preview 1. It writes ten digits to a file, goes back by three
// from the end, reads on from there and prints what it read and the file's size.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define IMPORT(name) __attribute__((import_module("wasi_unstable"), import_name(#name)))

struct vector { const void *at; u32 size; };
struct filestat { u64 dev, ino; u8 type; u32 links; u64 size, atim, mtim, ctim; };
enum { CUR, END, SET };

IMPORT(fd_write) u32 fd_write(u32 fd, const struct vector *, u32 n, u32 *written);
IMPORT(fd_read) u32 fd_read(u32 fd, const struct vector *, u32 n, u32 *read);
IMPORT(fd_seek) u32 fd_seek(u32 fd, u64 offset, u32 whence, u64 *at);
IMPORT(fd_filestat_get) u32 fd_filestat_get(u32 fd, struct filestat *);
IMPORT(path_open) u32 path_open(u32 dir, u32 follow, const char *, u32 size, u32 flags, u64 rights, u64 inherited, u32 fdflags, u32 *fd);
IMPORT(proc_exit) _Noreturn void proc_exit(u32 code);

static u32 put(u32 fd, const void *at, u32 size) {
  struct vector v = {at, size};
  u32 n;
  return fd_write(fd, &v, 1, &n);
}

void _start(void) {
  u32 fd, n;
  u64 at;
  static char text[3];
  static struct filestat st;
  struct vector v = {text, sizeof text};
  const u64 rights = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 21; // read, seek, write, filestat_get
  if (path_open(3, 0, "f", 1, 1, rights, 0, 0, &fd)) proc_exit(1);
  if (put(fd, "0123456789", 10)) proc_exit(2);
  if (fd_seek(fd, -3, END, &at) || at != 7) proc_exit(3);
  if (fd_read(fd, &v, 1, &n) || n != 3) proc_exit(4);
  if (fd_seek(fd, 0, CUR, &at) || at != 10) proc_exit(5);
  if (fd_filestat_get(fd, &st) || st.type != 4 || st.links != 1) proc_exit(6);
  char size = '0' + (char)(st.size / 10);
  put(1, text, 3);
  put(1, &size, 1);
  proc_exit(9);
}
