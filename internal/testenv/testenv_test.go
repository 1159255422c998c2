package testenv

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestSourceIsTheTreeThisPackageIsIn(t *testing.T) {
	top, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(top, "internal", "testenv", "testenv_test.go")); err != nil {
		t.Error(err)
	}
}

func TestSourceSaysWhereItLooked(t *testing.T) {
	t.Chdir(t.TempDir())
	if top, err := Source(); err == nil {
		t.Errorf("found a source tree at %s", top)
	}
}

func TestDescriptorsSeeALeak(t *testing.T) {
	before := descriptors()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if left := newer(before, descriptors()); len(left) != 2 {
		t.Errorf("one pipe: want two descriptors left, got %v", left)
	}
	r.Close()
	w.Close()
	if left := newer(before, descriptors()); len(left) != 0 {
		t.Errorf("pipe closed: want nothing left, got %v", left)
	}
}
