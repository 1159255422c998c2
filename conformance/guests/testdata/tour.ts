// tour uses what an ordinary program uses, and says how it went; see tour_test.go for what it has to say. AssemblyScript has
// no file system and no sleep of its own, so these are WASI's calls.
import {
  fd, fd_close, fd_read, fd_readdir, fd_seek, fd_write, oflags, path_open, poll_oneoff, rights, whence,
} from "@assemblyscript/wasi-shim/assembly/bindings/wasi_snapshot_preview1";

// The first descriptor after stdio is the directory that was given.
const DATA: fd = 3;

const iov = memory.data(8, 4);
const result = memory.data(8, 8);

function open(name: string, flags: oflags): i32 {
  const path = String.UTF8.encode(name);
  const all = rights.FD_READ | rights.FD_WRITE | rights.FD_SEEK;
  const e = path_open(DATA, 1, changetype<usize>(path), path.byteLength, flags, all, all, 0, result);
  return e ? -1 : load<i32>(result);
}

function main(): i32 {
  let args = "args:";
  for (let i = 1; i < process.argv.length; i++) args += " [" + process.argv[i] + "]";
  console.log(args);
  console.log("env: " + (process.env.has("GREETING") ? process.env.get("GREETING") : "none"));

  const buffer = new ArrayBuffer(256);
  let input = "";
  for (let n = process.stdin.read(buffer); n > 0; n = process.stdin.read(buffer)) {
    input += String.UTF8.decode(buffer.slice(0, n));
  }
  const lines = input.trimEnd().split("\n");
  for (let i = 0; i < lines.length; i++) console.log("stdin: " + lines[i]);

  const file = open("tour.txt", oflags.CREAT | oflags.TRUNC);
  if (file < 0) return 1;
  const text = String.UTF8.encode("written by the guest");
  store<usize>(iov, changetype<usize>(text));
  store<usize>(iov, text.byteLength, 4);
  if (fd_write(file, iov, 1, result) || load<i32>(result) != text.byteLength) return 1;
  if (fd_seek(file, 0, whence.SET, result)) return 1;
  store<usize>(iov, changetype<usize>(buffer));
  store<usize>(iov, buffer.byteLength, 4);
  if (fd_read(file, iov, 1, result)) return 1;
  console.log("file: " + String.UTF8.decode(buffer.slice(0, load<i32>(result))));
  fd_close(file);
  console.log("outside: " + (open("../../../../etc/passwd", 0) < 0 ? "closed" : "open"));

  const listing = new ArrayBuffer(4096);
  if (fd_readdir(DATA, changetype<usize>(listing), listing.byteLength, 0, result)) return 1;
  let entries = 0;
  // A dirent is 24 bytes, its name's length at 16, and the name behind it.
  for (let at = 0; at < load<i32>(result);) {
    const entry = changetype<usize>(listing) + at;
    if (load<u8>(entry, 24) != 46) entries++;
    at += 24 + load<i32>(entry, 16);
  }
  console.log("entries: " + entries.toString());

  // A subscription is 48 bytes: a clock (tag 0 at 8), which one at 16, nanoseconds at 24. An event is 32.
  const wait = new ArrayBuffer(48 + 32);
  store<u32>(changetype<usize>(wait), 1, 16);
  store<u64>(changetype<usize>(wait), 20_000_000, 24);
  const began = process.hrtime();
  if (poll_oneoff(changetype<usize>(wait), changetype<usize>(wait) + 48, 1, result)) return 1;
  const slept = process.hrtime() - began;
  const ok = Date.now() > 1_700_000_000_000 && slept >= 20_000_000 && slept < 5_000_000_000;
  console.log("clock: " + (ok ? "ok" : "wrong"));
  process.stderr.write("bye\n");
  return 7;
}

process.exit(main());
