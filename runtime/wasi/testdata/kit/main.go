// Command kit is a guest with a word for each thing a test wants to see from inside.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(word string, args []string) error {
	switch word {
	case "env":
		for _, v := range os.Environ() {
			fmt.Println(v)
		}
		return nil
	case "upper": // lines from stdin, one by one, while a ticker runs
		ticks := 0
		go func() {
			for range time.Tick(5 * time.Millisecond) {
				ticks++
			}
		}()
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			fmt.Println(strings.ToUpper(in.Text()))
		}
		fmt.Fprintln(os.Stderr, "ticks", ticks)
		return in.Err()
	case "flood": // megabytes to stdout
		n := 0
		for i := range 64 {
			m, err := os.Stdout.Write(make([]byte, 64<<10))
			n += m
			if err != nil {
				return fmt.Errorf("write %d: %w", i, err)
			}
		}
		fmt.Fprintln(os.Stderr, "wrote", n)
		return nil
	case "cat":
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(b)
		return err
	case "files":
		return files(args[0])
	case "sleep":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		time.Sleep(d)
		return nil
	}
	return fmt.Errorf("unknown word %q", word)
}

// files does what programs do with files, and prints what is left.
func files(root string) error {
	dir := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, "one")
	if err := os.WriteFile(name, []byte("one"), 0o644); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(" two"); err != nil {
		return err
	}
	if err := f.Truncate(6); err != nil {
		return err
	}
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, 3); err != nil && err != io.EOF {
		return err
	}
	fmt.Printf("%q\n", b)
	if err := os.Rename(name, filepath.Join(dir, "two")); err != nil {
		return err
	}
	if err := os.Symlink("two", name); err != nil {
		return err
	}
	when := time.Unix(1e9, 5)
	if err := os.Chtimes(name, when, when); err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Println(path, info.Mode().Type(), info.Size()*int64(b2i(!e.IsDir())))
		return nil
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
