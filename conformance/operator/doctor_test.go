package operator

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
)

type finding struct{ Name, Status, Detail, Needs string }

// doctor asks about a containerd and returns the findings by name, and the exit code.
func doctor(t *testing.T, address string) (map[string]finding, int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(testenv.Bin(t), "hachi"), "doctor", "--json", "--address", address)
	out, err := cmd.Output()
	var list []finding
	if jerr := json.Unmarshal(out, &list); jerr != nil {
		t.Fatalf("%v, %v: %s", err, jerr, out)
	}
	all := map[string]finding{}
	for _, f := range list {
		all[f.Name] = f
	}
	return all, cmd.ProcessState.ExitCode()
}

const onPath = "hachi on containerd's PATH"

// TestDoctor asks about a containerd that has hachi on its PATH, and one that has not.
func TestDoctor(t *testing.T) {
	perVersion(t, func(t *testing.T, version string) {
		bin := testenv.Bin(t)
		d := daemon.Test(t, version, daemon.Options{Path: []string{bin}})
		all, code := doctor(t, d.Address)
		for _, name := range []string{"kernel", "privileges", "cgroups", "containerd", onPath, "runtime handler"} {
			if all[name].Status != "ok" {
				t.Errorf("%s: %+v, want ok", name, all[name])
			}
		}
		if got, want := all[onPath].Detail, filepath.Join(bin, "containerd-shim-hachi-v1"); got != want {
			t.Errorf("%s: %s, want %s", onPath, got, want)
		}
		lacking := 0
		for _, f := range all {
			if f.Status == "missing" {
				lacking++
			}
		}
		if (lacking > 0) != (code == 1) || code > 1 {
			t.Errorf("exit code %d with %d missing", code, lacking)
		}
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
		if all, code := doctor(t, d.Address); code != 1 || all["containerd"].Status != "missing" {
			t.Errorf("stopped containerd: exit code %d, %+v", code, all["containerd"])
		}
	})
}

// TestDoctorWithoutHachi: containerd's PATH lacks hachi.
func TestDoctorWithoutHachi(t *testing.T) {
	perVersion(t, func(t *testing.T, version string) {
		d := daemon.Test(t, version, daemon.Options{})
		all, code := doctor(t, d.Address)
		if code != 1 || all[onPath].Status != "missing" || all[onPath].Needs == "" {
			t.Errorf("exit code %d, %+v", code, all[onPath])
		}
	})
}
