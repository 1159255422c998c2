// Package toolbox is a handful of commands to look around in a Wasm container, where there is no shell:
// `kubectl exec POD -- ls /data`. They run in an engine process of their own, in the container's jail.
package toolbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// command runs one word of the toolbox and returns its exit code.
type command func(c *call) int

type call struct {
	args   []string
	dir    string // where relative paths begin: the jail has no chdir
	env    []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

var commands = map[string]command{
	"true":   func(*call) int { return 0 },
	"false":  func(*call) int { return 1 },
	"echo":   echo,
	"env":    printEnv,
	"pwd":    pwd,
	"ls":     list,
	"cat":    cat,
	"id":     identity,
	"date":   date,
	"sleep":  sleep,
	"uname":  uname,
	"head":   head,
	"stat":   stat,
	"printf": printf,
	"tar":    archive,
	"test":   test,
}

// Words lists the toolbox's commands in order.
func Words() []string {
	words := make([]string, 0, len(commands))
	for w := range commands {
		words = append(words, w)
	}
	sort.Strings(words)
	return words
}

// Has tells whether arg, with or without a directory such as /bin, is a word of the toolbox.
func Has(arg string) bool {
	_, ok := commands[filepath.Base(arg)]
	return ok
}

// Run runs args[0] in the directory dir, "/" when empty, and returns its exit code: 0, 1 after a message on
// stderr, or 127 for no such word.
func Run(args, env []string, dir string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || !Has(args[0]) {
		fmt.Fprintf(stderr, "toolbox: no such command (have %s)\n", strings.Join(Words(), ", "))
		return 127
	}
	name := filepath.Base(args[0])
	return commands[name](&call{args: args[1:], dir: filepath.Join("/", dir), env: env, stdin: stdin, stdout: stdout, stderr: stderr})
}

// fail reports err as coreutils do and returns their exit code for it.
func (c *call) fail(name string, err error) int {
	fmt.Fprintf(c.stderr, "%s: %v\n", name, err)
	return 1
}

// path is the file that name means.
func (c *call) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// operands are the arguments that are not flags; flags holds the letters of those that are.
func (c *call) operands() (names []string, flags string) {
	for i, a := range c.args {
		if a == "--" {
			return append(names, c.args[i+1:]...), flags
		}
		if len(a) > 1 && a[0] == '-' {
			flags += a[1:]
			continue
		}
		names = append(names, a)
	}
	return names, flags
}

func echo(c *call) int {
	args, end := c.args, "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	fmt.Fprint(c.stdout, strings.Join(args, " ")+end)
	return 0
}

func printf(c *call) int {
	if len(c.args) == 0 {
		return c.fail("printf", fmt.Errorf("no format"))
	}
	fmt.Fprint(c.stdout, strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\\`, `\`).Replace(c.args[0]))
	return 0
}

func printEnv(c *call) int {
	for _, e := range c.env {
		fmt.Fprintln(c.stdout, e)
	}
	return 0
}

func pwd(c *call) int {
	fmt.Fprintln(c.stdout, c.dir)
	return 0
}

func list(c *call) int {
	names, flags := c.operands()
	if len(names) == 0 {
		names = []string{"."}
	}
	code := 0
	for _, name := range names {
		info, err := os.Lstat(c.path(name))
		if err != nil {
			code = c.fail("ls", err)
			continue
		}
		if !info.IsDir() {
			c.entry(name, info, flags)
			continue
		}
		entries, err := os.ReadDir(c.path(name))
		if err != nil {
			code = c.fail("ls", err)
			continue
		}
		if len(names) > 1 {
			fmt.Fprintf(c.stdout, "%s:\n", name)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") && !strings.ContainsAny(flags, "aA") {
				continue
			}
			if info, err := e.Info(); err == nil {
				c.entry(e.Name(), info, flags)
			}
		}
	}
	return code
}

func (c *call) entry(name string, info os.FileInfo, flags string) {
	if strings.Contains(flags, "l") {
		fmt.Fprintf(c.stdout, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.DateTime), name)
		return
	}
	fmt.Fprintln(c.stdout, name)
}

func cat(c *call) int {
	names, _ := c.operands()
	if len(names) == 0 {
		names = []string{"-"}
	}
	code := 0
	for _, name := range names {
		if err := c.copy(name, -1); err != nil {
			code = c.fail("cat", err)
		}
	}
	return code
}

// copy writes a file, or stdin for "-", to stdout: all of it, or its first lines when lines is not negative.
func (c *call) copy(name string, lines int) error {
	in := c.stdin
	if name != "-" {
		f, err := os.Open(c.path(name))
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if lines < 0 {
		_, err := io.Copy(c.stdout, in)
		return err
	}
	data, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return err
	}
	parts := strings.SplitAfter(string(data), "\n")
	_, err = io.WriteString(c.stdout, strings.Join(parts[:min(lines, len(parts))], ""))
	return err
}

func head(c *call) int {
	lines, args := 10, slices.Clone(c.args)
	if len(args) > 1 && args[0] == "-n" {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 0 {
			return c.fail("head", fmt.Errorf("-n %s: not a count", args[1]))
		}
		lines, args = n, args[2:]
	}
	if len(args) == 0 {
		args = []string{"-"}
	}
	code := 0
	for _, name := range args {
		if err := c.copy(name, lines); err != nil {
			code = c.fail("head", err)
		}
	}
	return code
}

func stat(c *call) int {
	names, _ := c.operands()
	code := 0
	for _, name := range names {
		info, err := os.Lstat(c.path(name))
		if err != nil {
			code = c.fail("stat", err)
			continue
		}
		c.entry(name, info, "l")
	}
	return code
}

func identity(c *call) int {
	groups, err := os.Getgroups()
	if err != nil {
		return c.fail("id", err)
	}
	text := make([]string, len(groups))
	for i, g := range groups {
		text[i] = strconv.Itoa(g)
	}
	fmt.Fprintf(c.stdout, "uid=%d gid=%d groups=%s\n", os.Getuid(), os.Getgid(), strings.Join(text, ","))
	return 0
}

func date(c *call) int {
	fmt.Fprintln(c.stdout, time.Now().UTC().Format(time.UnixDate))
	return 0
}

func sleep(c *call) int {
	var total time.Duration
	for _, a := range c.args {
		d, err := time.ParseDuration(a)
		if seconds, ferr := strconv.ParseFloat(a, 64); ferr == nil {
			d, err = time.Duration(seconds*float64(time.Second)), nil
		}
		if err != nil || d < 0 {
			return c.fail("sleep", fmt.Errorf("%s: not a duration", a))
		}
		total += d
	}
	time.Sleep(total)
	return 0
}

func uname(c *call) int {
	host, _ := os.Hostname() // an empty name is shown as such
	fmt.Fprintf(c.stdout, "WASI %s wasip1 wasm32 hachi\n", host)
	return 0
}
