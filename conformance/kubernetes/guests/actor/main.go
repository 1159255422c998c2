// Command actor is the program in the pods of the suite. It is compiled for WASI and for Linux, so that one row says
// what both kinds of pod do. Its first argument is a word; the rest are that word's arguments.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

var words = map[string]func(args []string) error{
	"serve": serve,
	"say":   func(args []string) error { fmt.Println(strings.Join(args, " ")); return nil },
	"env":   func([]string) error { fmt.Println(strings.Join(os.Environ(), "\n")); return nil },
	"exit":  exit,
	"once":  once,
	"sleep": sleep,
	"count": count,
	"echo":  echo,
	"eat":   func(args []string) error { return eat(number(args, 64)) },
	"spin":  func([]string) error { return spin(time.Hour) },
	"cat":   cat,
	"get":   get,
	"write": func(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o644) },
	"await": await,
	"trap":  func([]string) error { panic("as asked") },
}

func main() {
	if len(os.Args) < 2 || words[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "actor: no such word: %q\n", os.Args)
		os.Exit(64)
	}
	if err := words[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "actor %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// number is the first argument, or other when there is none.
func number(args []string, other int) int {
	if len(args) == 0 {
		return other
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		panic(err)
	}
	return n
}

// exit says something on both streams and ends with a code.
func exit(args []string) error {
	fmt.Println("to stdout")
	fmt.Fprintln(os.Stderr, "to stderr")
	os.Exit(number(args, 0))
	return nil
}

// once is exit until its first argument is a file, and then sleep.
func once(args []string) error {
	if _, err := os.Stat(args[0]); err == nil {
		return sleep(nil)
	}
	if err := os.WriteFile(args[0], nil, 0o644); err != nil {
		return err
	}
	return exit(args[1:])
}

func sleep(args []string) error {
	time.Sleep(time.Duration(number(args, 3600)) * time.Second)
	return nil
}

// count prints a line every 200 ms.
func count(args []string) error {
	for i := range number(args, 1<<30) {
		fmt.Println("line", i)
		time.Sleep(200 * time.Millisecond)
	}
	return nil
}

// echo answers each line of stdin.
func echo([]string) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("you said", in.Text())
	}
	return in.Err()
}

// eat fills so many MiB with something and keeps them.
func eat(mib int) error {
	var kept [][]byte
	for range mib {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 512 {
			block[i] = byte(i)
		}
		kept = append(kept, block)
	}
	fmt.Printf("ate %d MiB\n", len(kept))
	time.Sleep(time.Hour)
	runtime.KeepAlive(kept)
	return nil
}

func spin(d time.Duration) error {
	sum := 0
	for end := time.Now().Add(d); time.Now().Before(end); {
		for i := range 1000000 {
			sum += i
		}
	}
	if sum == 0 {
		return fmt.Errorf("nothing added up")
	}
	return nil
}

func cat(args []string) error {
	for _, name := range args {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", name, strings.TrimSpace(string(text)))
	}
	return nil
}

// await waits until somebody listens at an address: what many init containers do.
func await(args []string) error {
	for {
		conn, err := net.DialTimeout("tcp", args[0], time.Second)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func copyText(w io.Writer, text string) { _, _ = io.WriteString(w, text) }
