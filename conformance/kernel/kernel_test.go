package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) {
	// In the machine, this binary is what the test runs.
	if what := os.Getenv("HOME"); what == "/tmp" && len(os.Args) == 2 {
		switch os.Args[1] {
		case "panic":
			panic("on purpose")
		case "show":
			release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
			data, err := os.ReadFile("testdata/greeting")
			os.Stdout.WriteString("kernel " + string(release) + "data " + string(data))
			if err != nil {
				os.Exit(1)
			}
			os.Exit(3)
		}
	}
	os.Exit(testenv.Main(m))
}

// The machine says what the test says, no more, and ends as the test ends.
func TestMachineRunsATest(t *testing.T) {
	parts, self := machineParts(t), staticSelf(t)
	for _, tc := range []struct {
		arg, out string
		code     int
	}{
		{"show", "kernel 6.1.", 3},
		{"panic", "panic: on purpose", 2},
	} {
		t.Run(tc.arg, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			if err := writeImage(image, payload{parts: parts, test: self, args: []string{tc.arg}}); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			m := machine{kernel: filepath.Join(parts, "vmlinuz"), image: image, stdout: &out, limit: 5 * time.Minute}
			code, err := m.run(context.Background())
			if err != nil || code != tc.code || !strings.HasPrefix(out.String(), tc.out) {
				t.Errorf("got exit %d, %v, output %q; want %d, %q", code, err, out.String(), tc.code, tc.out)
			}
			if tc.arg == "show" && !strings.HasSuffix(out.String(), "data hello from testdata\n") {
				t.Errorf("testdata did not come along: %q", out.String())
			}
		})
	}
}

// A machine that never gets to the test is an error that shows the console.
func TestMachineThatDoesNotBoot(t *testing.T) {
	parts := machineParts(t)
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	a := archive{w: f}
	a.dir("nothing")
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var out bytes.Buffer
	m := machine{kernel: filepath.Join(parts, "vmlinuz"), image: image, stdout: &out, limit: 5 * time.Minute}
	if code, err := m.run(context.Background()); err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("got exit %d, %v", code, err)
	}
}

func machineParts(t *testing.T) string {
	t.Helper()
	testenv.NeedTool(t, "qemu-system-x86_64")
	top, err := testenv.Source()
	if err != nil {
		t.Fatal(err)
	}
	if err := testenv.Make("kernel"); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(top, "bin", "kernel")
}

// staticSelf is this test, linked for a machine without libraries.
func staticSelf(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "self")
	cmd := exec.Command("go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the test for the machine: %v\n%s", err, out)
	}
	return path
}

func TestLimitIsMoreThanTheTestsOwn(t *testing.T) {
	for args, want := range map[string]time.Duration{
		"-test.timeout=10m0s": 11 * time.Minute,
		"-test.timeout=0s":    30 * time.Minute,
		"-test.v=true":        30 * time.Minute,
	} {
		if got := limit([]string{args}); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

// What the archive holds is read back by the program that defines the format.
func TestArchiveIsOneForCpio(t *testing.T) {
	cpio := testenv.NeedTool(t, "busybox")
	var out bytes.Buffer
	a := archive{w: &out}
	a.dir("d")
	a.file("d/odd", []byte("12345"))
	a.link("d/link", "odd")
	a.file("even", []byte("1234"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(cpio, "cpio", "-i", "-d")
	cmd.Dir, cmd.Stdin = dir, &out
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for name, want := range map[string]string{"d/odd": "12345", "d/link": "12345", "even": "1234"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	if _, err := inOrder(t.TempDir(), []string{"veth"}); err == nil || !strings.Contains(err.Error(), "veth: not in the package") {
		t.Errorf("a missing module: %v", err)
	}
	dir := t.TempDir()
	for name, depends := range map[string]string{"top": "mid-dle,low", "mid-dle": "low", "low": ""} {
		writeModule(t, filepath.Join(dir, name+".ko"), depends)
	}
	got, err := inOrder(dir, []string{"top"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"low.ko", "mid-dle.ko", "top.ko"}
	for i := range got {
		got[i] = filepath.Base(got[i])
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

// writeModule makes an object file whose .modinfo says what it depends on.
func writeModule(t *testing.T, path, depends string) {
	t.Helper()
	objcopy := testenv.NeedTool(t, "objcopy")
	info := filepath.Join(t.TempDir(), "modinfo")
	if err := os.WriteFile(info, []byte("license=GPL\x00depends="+depends+"\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(objcopy, "--strip-all", "--add-section", ".modinfo="+info, self, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
