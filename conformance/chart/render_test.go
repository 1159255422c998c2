package chart

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv"
)

// objects are the rendered manifests by kind and name. Their form is what the templates write, so lines will do.
func objects(t *testing.T, set string) map[string]string {
	t.Helper()
	text, err := render(t, "--values", "testdata/values/"+set+".yaml")
	if err != nil {
		t.Fatal(text)
	}
	out := map[string]string{}
	for _, doc := range strings.Split(text, "\n---\n") {
		if kind := value(doc, "kind: "); kind != "" {
			out[kind+" "+value(doc, "  name: ")] = doc
		}
	}
	return out
}

// value is what follows a prefix in the first line that has it.
func value(doc, prefix string) string {
	for line := range strings.Lines(doc) {
		if v, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// list are the items below the first line that is key, whatever its indentation.
func list(doc, key string) []string {
	var out []string
	in := false
	for line := range strings.Lines(doc) {
		line = strings.TrimSpace(line)
		item, ok := strings.CutPrefix(line, "- ")
		switch {
		case line == key:
			in = true
		case in && ok:
			if plain, err := strconv.Unquote(item); err == nil {
				item = plain
			}
			out = append(out, item)
		case in:
			return out
		}
	}
	return out
}

// What the pods may do is all that they need, and a change of it is a decision.
func TestRights(t *testing.T) {
	all := objects(t, "default")
	for name, capabilities := range map[string][]string{
		"DaemonSet hachi-installer": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SYS_CHROOT", "SYS_PTRACE", "SYS_ADMIN"},
		"DaemonSet hachi-agent":     {"BPF", "NET_ADMIN", "PERFMON"},
		"Job hachi-uninstall":       nil,
	} {
		doc := all[name]
		if diff := cmp.Diff(capabilities, list(doc, "add:")); diff != "" {
			t.Errorf("%s: capabilities (-want +got):\n%s", name, diff)
		}
		if dropped := append(list(doc, "drop:"), value(doc, "              drop: ")); !slices.Contains(dropped, "ALL") && !slices.Contains(dropped, "[ALL]") {
			t.Errorf("%s drops %v", name, dropped)
		}
		for _, never := range []string{"privileged: true", "hostNetwork", "hostIPC"} {
			if strings.Contains(doc, never) {
				t.Errorf("%s has %s", name, never)
			}
		}
		if !strings.Contains(doc, "readOnlyRootFilesystem: true") || !strings.Contains(doc, "type: RuntimeDefault") {
			t.Errorf("%s: root file system or seccomp profile:\n%s", name, doc)
		}
	}
	if !strings.Contains(all["DaemonSet hachi-agent"], "automountServiceAccountToken: false") {
		t.Error("the agent has a token")
	}
	rules := map[string]string{}
	for name, doc := range all {
		if _, text, ok := strings.Cut(doc, "\nrules:\n"); ok {
			rules[name] = strings.Join(strings.Fields(text), " ")
		}
	}
	want := map[string]string{
		"ClusterRole hachi-installer": `- apiGroups: [""] resources: [nodes] verbs: [patch]`,
		"ClusterRole hachi-uninstall": `- apiGroups: [""] resources: [pods] verbs: [list]`,
		"Role hachi-uninstall":        `- apiGroups: [apps] resources: [daemonsets] resourceNames: [hachi-installer] verbs: [get, patch]`,
	}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if got := list(objects(t, "signal")["DaemonSet hachi-installer"], "add:"); slices.Contains(got, "SYS_ADMIN") || len(got) == 0 {
		t.Errorf("without systemd the installer has %v", got)
	}
}

// Every command line that the chart writes is one that hachi understands.
func TestCommandLines(t *testing.T) {
	bin := filepath.Join(testenv.Bin(t), "hachi")
	tried := 0
	for _, set := range valueSets(t) {
		for name, doc := range objects(t, set) {
			args := list(doc, "args:")
			if len(args) == 0 {
				continue
			}
			lines := [][]string{args}
			if at := slices.Index(args, "install"); at >= 0 {
				turned := append(slices.Clone(args), "--force", "--purge")
				turned[at] = "uninstall"
				lines = append(lines, turned)
			}
			for _, line := range lines {
				tried++
				// Help is given only after all flags were understood.
				if out, err := exec.Command(bin, append(line, "--help")...).CombinedOutput(); err != nil {
					t.Errorf("%s, %s: %v: %v\n%s", set, name, line, err, out)
				}
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d command lines were found", tried)
	}
}
