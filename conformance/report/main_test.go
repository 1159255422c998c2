package main

import (
	"strings"
	"testing"
)

const stream = `{"Action":"run","Package":"github.com/hachi-run/hachi/a","Test":"TestGood"}
{"Action":"output","Package":"github.com/hachi-run/hachi/a","Test":"TestGood","Output":"never shown\n"}
{"Action":"pass","Package":"github.com/hachi-run/hachi/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"github.com/hachi-run/hachi/a","Test":"TestRoot","Output":"    a_test.go:7: needs root: run make test as root\n"}
{"Action":"output","Package":"github.com/hachi-run/hachi/a","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"github.com/hachi-run/hachi/a","Test":"TestRoot","Elapsed":0}
{"Action":"pass","Package":"github.com/hachi-run/hachi/a","Elapsed":0.2}
`

const failure = `{"Action":"output","Package":"github.com/hachi-run/hachi/b","Test":"TestBad","Output":"    b_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"github.com/hachi-run/hachi/b","Test":"TestBad","Elapsed":0}
{"Action":"fail","Package":"github.com/hachi-run/hachi/b","Elapsed":0.3}
`

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name, in    string
		code        int
		has, hasNot []string
	}{
		{"good", stream, 0, []string{"needs root: run make test as root\n    a TestRoot", "1 passed, 0 failed, 1 skipped", "\nPASS\n"}, []string{"never shown", "FAIL"}},
		{"bad", stream + failure, 1, []string{"TestRoot\n\nFailed:\n  b TestBad\n          b_test.go:3: got 1, want 2\n\n1 passed, 1 failed, 1 skipped", "FAIL: b"}, nil},
		{"package that fails outside of its tests", stream + `{"Action":"fail","Package":"c","Elapsed":1}`, 1, []string{"FAIL: c"}, nil},
		{"nothing ran", "", 1, []string{"no test ran"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if code := run(strings.NewReader(c.in), &out); code != c.code {
				t.Errorf("want exit code %d, got %d", c.code, code)
			}
			for _, want := range c.has {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing from\n%s", want, &out)
				}
			}
			for _, not := range c.hasNot {
				if strings.Contains(out.String(), not) {
					t.Errorf("%q should not be in\n%s", not, &out)
				}
			}
		})
	}
}
