// Command probe is the program inside the containers of the test table. It is compiled for Linux and for WASI,
// so that one case says what both kinds of container do. Its first argument that is one of its words
// is what it does; the rest are that word's arguments.
package main

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

var words = map[string]func(args []string) int{
	"args":  func(args []string) int { return say(strings.Join(args, "\n")) },
	"env":   func([]string) int { return say(strings.Join(os.Environ(), "\n")) },
	"exit":  func(args []string) int { return number(args[0]) },
	"cwd":   cwd,
	"cat":   func([]string) int { return check(copyAll()) },
	"both":  both,
	"bytes": flood,
	"read":  read,
	"write": func(args []string) int { return check(os.WriteFile(args[0], []byte(args[1]), 0o644)) },
	"ls":    list,
	"sleep": sleep,
	"ready": ready,
	"spin":  spin,
	"eat":   eat,
	"panic": func([]string) int { panic("as asked") },
	"ids":   ids,
	"tty":   tty,
	"chain": chain,
}

func main() {
	catchTerm()
	// With an image entrypoint the program's own name may stand there once or twice.
	for i, arg := range os.Args {
		if word, ok := words[arg]; ok && i > 0 {
			os.Exit(word(os.Args[i+1:]))
		}
	}
	os.Stderr.WriteString("probe: no word of mine in " + strings.Join(os.Args, " ") + "\n")
	os.Exit(64)
}

func say(text string) int {
	_, err := os.Stdout.WriteString(text + "\n")
	return check(err)
}

func check(err error) int {
	if err != nil {
		os.Stderr.WriteString("probe: " + err.Error() + "\n")
		return 1
	}
	return 0
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func cwd([]string) int {
	dir, err := os.Getwd()
	if err != nil {
		return check(err)
	}
	return say(dir)
}

func copyAll() error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}

func both(args []string) int {
	os.Stdout.WriteString(args[0])
	os.Stderr.WriteString(args[1])
	return 0
}

// flood writes a known number of bytes, each the low byte of its place, as fast as the reader takes them.
func flood(args []string) int {
	left := number(args[0])
	buf := make([]byte, 8192)
	for i := range buf {
		buf[i] = byte(i)
	}
	for left > 0 {
		n, err := os.Stdout.Write(buf[:min(left, len(buf))])
		if err != nil {
			return check(err)
		}
		left -= n
	}
	return 0
}

func read(args []string) int {
	raw, err := os.ReadFile(args[0])
	if err != nil {
		return check(err)
	}
	_, err = os.Stdout.Write(raw)
	return check(err)
}

func list(args []string) int {
	entries, err := os.ReadDir(args[0])
	if err != nil {
		return check(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return say(strings.Join(names, "\n"))
}

func sleep(args []string) int {
	time.Sleep(time.Duration(number(args[0])) * time.Millisecond)
	return 0
}

// ready says that it runs and then waits for ever, for tests that need to know.
func ready([]string) int {
	say("ready")
	for {
		time.Sleep(time.Hour)
	}
}

// spin never calls the host again: only a preemptible guest or a killed process ends.
func spin([]string) int {
	say("ready")
	n := 0
	for n >= 0 {
		n = (n + 1) & 0xffff
	}
	return n
}

// eat touches memory until somebody stops it.
func eat(args []string) int {
	limit := number(args[0]) // MiB
	var all [][]byte
	for range limit {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		all = append(all, block)
	}
	return say("ate " + strconv.Itoa(len(all)) + " MiB")
}

// chain writes what it reads in a directory: name=content for each file, to see a volume as a guest does.
func chain(args []string) int {
	names, err := filepath.Glob(filepath.Join(args[0], "*"))
	if err != nil {
		return check(err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return check(err)
		}
		say(filepath.Base(name) + "=" + string(raw))
	}
	return 0
}
