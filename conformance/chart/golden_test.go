package chart

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// valueSets are the files in testdata/values, without their ending.
func valueSets(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %d value sets, %v", len(files), err)
	}
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(filepath.Base(f), ".yaml"))
	}
	return out
}

func TestGolden(t *testing.T) {
	for _, set := range valueSets(t) {
		t.Run(set, func(t *testing.T) {
			got, err := render(t, "--values", "testdata/values/"+set+".yaml")
			if err != nil {
				t.Fatal(got)
			}
			golden := "testdata/golden/" + set + ".yaml"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (write it with -update)", err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("templates changed; write them anew with -update if that is right (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLint(t *testing.T) {
	for _, set := range valueSets(t) {
		stdout, stderr, err := helm(t, "lint", "--strict", "--kube-version", kubeVersion, "--values", "testdata/values/"+set+".yaml", source(t, "charts/hachi"))
		if err != nil || strings.Contains(stdout, "[WARNING]") {
			t.Errorf("%s: %v\n%s%s", set, err, stdout, stderr)
		}
	}
}
