// Command report reads what `go test -json` wrote and says it in few words: a line per package and per test that failed,
// then every skip with its reason, then the whole output of what failed, then the counts. Failures come last because
// the end is what one sees, and often all that is kept. It exits with 1 if anything failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

func main() { os.Exit(run(os.Stdin, os.Stdout)) }

// event is one line of test2json; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

type report struct {
	w                        io.Writer
	output                   map[string][]string // of a test or package, until it is known to be worth showing
	passed, failed, packages int
	broken                   []string
	failures                 strings.Builder     // the output of what failed
	skips                    map[string][]string // reason -> tests
}

func run(in io.Reader, out io.Writer) int {
	r := &report{w: out, output: map[string][]string{}, skips: map[string][]string{}}
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Fprintln(out, sc.Text()) // not of test2json: the go command itself
			continue
		}
		r.add(e)
	}
	if err := sc.Err(); err != nil {
		r.broken = append(r.broken, "the report's input: "+err.Error())
	}
	return r.end()
}

func (r *report) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "build-fail":
		r.broken = append(r.broken, e.ImportPath+" does not build")
	case "pass":
		if e.Test != "" {
			r.passed++
		} else {
			r.packages++
			fmt.Fprintf(r.w, "ok    %7.1fs  %s\n", e.Elapsed, short(e.Package))
		}
		delete(r.output, key)
	case "skip":
		if e.Test != "" {
			why := reason(r.output[key])
			r.skips[why] = append(r.skips[why], short(e.Package)+" "+e.Test)
		}
		delete(r.output, key)
	case "fail":
		name := short(e.Package)
		if e.Test != "" {
			r.failed++
			name += " " + e.Test
		} else {
			r.broken = append(r.broken, name)
		}
		fmt.Fprintf(r.w, "FAIL  %7.1fs  %s\n", e.Elapsed, name)
		if output := r.output[key]; len(output) > 0 {
			fmt.Fprintf(&r.failures, "  %s\n      %s", name, strings.Join(output, "      "))
		}
		delete(r.output, key)
	}
}

func (r *report) end() int {
	skipped := 0
	if len(r.skips) > 0 {
		fmt.Fprintln(r.w, "\nSkipped, and why:")
	}
	for _, why := range sorted(r.skips) {
		tests := r.skips[why]
		skipped += len(tests)
		fmt.Fprintf(r.w, "  %s\n", why)
		for _, test := range tests[:min(len(tests), 5)] {
			fmt.Fprintf(r.w, "    %s\n", test)
		}
		if more := len(tests) - 5; more > 0 {
			fmt.Fprintf(r.w, "    and %d more\n", more)
		}
	}
	if r.failures.Len() > 0 {
		fmt.Fprint(r.w, "\nFailed:\n", r.failures.String())
	}
	verdict, code := "PASS", 0
	if r.failed+r.passed == 0 {
		r.broken = append(r.broken, "no test ran")
	}
	if r.failed > 0 || len(r.broken) > 0 {
		verdict, code = "FAIL: "+strings.Join(r.broken, ", "), 1
	}
	fmt.Fprintf(r.w, "\n%d passed, %d failed, %d skipped in %d packages\n%s\n", r.passed, r.failed, skipped, r.packages+len(r.broken), verdict)
	return code
}

// reason is what t.Skip was told: the last line of output that is not the frame around it.
func reason(output []string) string {
	why := "no reason given"
	for _, line := range output {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") {
			continue
		}
		if _, after, ok := strings.Cut(text, ".go:"); ok {
			if _, said, ok := strings.Cut(after, ": "); ok {
				text = said
			}
		}
		why = text
	}
	return why
}

func short(pkg string) string { return strings.TrimPrefix(pkg, "github.com/hachi-run/hachi/") }

func sorted(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
