package chart

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// kubeVersion is what templates are rendered for.
const kubeVersion = "1.36.0"

// source is a path in the source tree.
func source(t testing.TB, elem ...string) string {
	t.Helper()
	top, err := testenv.Source()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{top}, elem...)...)
}

// helm runs the real helm, with none of the user's settings, and returns its standard output and its error's text.
func helm(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	if err := testenv.Make("helm-4.0.1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, source(t, "bin/tools/helm-4.0.1/helm"), args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// render renders the chart. More arguments are helm's.
func render(t testing.TB, args ...string) (string, error) {
	t.Helper()
	stdout, stderr, err := helm(t, append([]string{"template", "hachi", source(t, "charts/hachi"), "--namespace", "hachi-system", "--kube-version", kubeVersion}, args...)...)
	if err != nil {
		return stderr, err
	}
	return stdout, nil
}
