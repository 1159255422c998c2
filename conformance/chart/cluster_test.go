package chart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
)

const namespace = "hachi-system"

// cluster is a running cluster whose nodes know nothing of hachi yet.
type cluster struct {
	*testing.T
	kubeconfig, registry, image string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, kubeconfig: os.Getenv("KUBECONFIG"), registry: os.Getenv("REGISTRY")}
	if c.kubeconfig == "" || c.registry == "" {
		t.Skip("needs a cluster without hachi, in KUBECONFIG and REGISTRY: run make test-chart")
	}
	c.push("one")
	return c
}

// push packs the programs as they are built now and pushes them under a tag.
func (c *cluster) push(tag string) {
	c.Helper()
	bin := testenv.Bin(c.T)
	c.image = c.registry + "/hachi-node"
	cmd := exec.CommandContext(c.Context(), "go", "run", "./charts/image", "-o", filepath.Join(c.TempDir(), "node.tar"), "-push", c.image+":"+tag, runtime.GOARCH+"="+bin)
	cmd.Dir = source(c.T)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("%v\n%s", err, out)
	}
}

// helm runs helm against the cluster.
func (c *cluster) helm(args ...string) (string, error) {
	c.Helper()
	stdout, stderr, err := helm(c.T, append(args, "--kubeconfig", c.kubeconfig, "--namespace", namespace)...)
	return stdout + stderr, err
}

func (c *cluster) must(what string, out string, err error) string {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v\n%s", what, err, out)
	}
	return out
}

func (c *cluster) kubectl(args ...string) (string, error) {
	cmd := exec.CommandContext(c.Context(), source(c.T, "bin/tools/kubectl"), append([]string{"--kubeconfig", c.kubeconfig}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *cluster) get(args ...string) string {
	c.Helper()
	out, err := c.kubectl(args...)
	return c.must("kubectl "+strings.Join(args, " "), out, err)
}

func (c *cluster) apply(manifest string) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), source(c.T, "bin/tools/kubectl"), "--kubeconfig", c.kubeconfig, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("apply: %v\n%s", err, out)
	}
}

func (c *cluster) eventually(what string, try func() error) {
	c.Helper()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	c.Fatalf("%s: %v", what, err)
}

// settings fit the cluster of conformance/kubernetes, whose nodes' first process starts containerd again when it ends. The
// command runs in the node's own namespaces; package install and TestInstallerInAPod try the signal.
func (c *cluster) settings(tag string) []string {
	return []string{
		"--set", "image.repository=" + c.image + ",image.tag=" + tag, "--set", "installer.check=3s",
		"--set-string", "installer.containerd.restartCommand=kill -TERM $(cat /run/containerd/containerd.pid)",
	}
}

// The chart's whole life, by the real helm.
func TestClusterInstallUpgradeUninstall(t *testing.T) {
	c := newCluster(t)
	ready := func() string {
		return c.get("get", "nodes", "-l", "hachi.run/ready=true", "-o", "jsonpath={.items[*].metadata.name}")
	}
	if nodes := ready(); nodes != "" {
		t.Fatalf("the cluster has hachi already on %s (want make cluster HACHI=no)", nodes)
	}
	nodes := c.get("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	t.Cleanup(func() {
		if t.Failed() {
			c.show()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = exec.CommandContext(ctx, source(t, "bin/tools/kubectl"), "--kubeconfig", c.kubeconfig, "delete", "pod", "bee", "--ignore-not-found", "--force").Run()
	})

	out, err := c.helm(append([]string{"install", "hachi", source(t, "charts/hachi"), "--create-namespace", "--wait", "--timeout", "5m"}, c.settings("one")...)...)
	c.must("helm install", out, err)
	if got := ready(); got != nodes {
		t.Fatalf("ready: %q, want %q", got, nodes)
	}
	if !strings.Contains(out, "kubectl get nodes -L hachi.run/ready") {
		t.Errorf("notes:\n%s", out)
	}

	t.Run("a Wasm pod runs", func(t *testing.T) {
		c := &cluster{t, c.kubeconfig, c.registry, c.image}
		c.bee()
		c.eventually("log of the pod", func() error {
			said, err := c.kubectl("logs", "bee")
			if err == nil && !strings.Contains(said, "bzz") {
				err = fmt.Errorf("it said %q", said)
			}
			return err
		})
		overhead := c.get("get", "pod", "bee", "-o", "jsonpath={.spec.overhead.memory} {.spec.nodeSelector.hachi\\.run/ready}")
		if overhead != "12Mi true" {
			t.Errorf("overhead and selector: %q", overhead)
		}
	})

	t.Run("the agent answers", func(t *testing.T) {
		c := &cluster{t, c.kubeconfig, c.registry, c.image}
		pod := c.get("-n", namespace, "get", "pods", "-l", "app.kubernetes.io/component=agent", "-o", "jsonpath={.items[0].metadata.name}")
		c.eventually("metrics", func() error {
			text, err := c.kubectl("get", "--raw", "/api/v1/namespaces/"+namespace+"/pods/"+pod+":9464/proxy/metrics")
			if err == nil && !strings.Contains(text, `pod="bee"`) {
				err = fmt.Errorf("nothing of the pod in\n%s", text)
			}
			return err
		})
	})

	t.Run("the installer's account may do nothing else", func(t *testing.T) {
		c := &cluster{t, c.kubeconfig, c.registry, c.image}
		c.onlyItsLabels(strings.Fields(nodes)[0])
	})

	t.Run("a lost installation comes back", func(t *testing.T) {
		c := &cluster{t, c.kubeconfig, c.registry, c.image}
		node := strings.Fields(nodes)[0]
		before := c.restarts()
		c.get("label", "node", node, "hachi.run/ready-")
		c.onNode("rm /host/etc/containerd/conf.d/hachi.toml")
		c.eventually("drop-in", func() error {
			out, err := c.kubectl("-n", "default", "exec", "look", "--", "grep", "-c", "io.containerd.hachi.v1", "/host/etc/containerd/conf.d/hachi.toml")
			if err != nil {
				return fmt.Errorf("%s: %w", out, err)
			}
			return nil
		})
		c.eventually("label", func() error {
			if got := c.get("get", "nodes", "-l", "hachi.run/ready=true", "-o", "jsonpath={.items[*].metadata.name}"); got != nodes {
				return fmt.Errorf("ready: %q", got)
			}
			return nil
		})
		if after := c.restarts(); after != before {
			t.Errorf("installer restarts: %s, before %s", after, before)
		}
	})

	t.Run("an upgrade leaves pods alone", func(t *testing.T) {
		c := &cluster{t, c.kubeconfig, c.registry, c.image}
		before := c.get("get", "pod", "bee", "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}")
		c.push("two")
		out, err := c.helm(append([]string{"upgrade", "hachi", source(t, "charts/hachi"), "--wait", "--timeout", "5m"}, c.settings("two")...)...)
		c.must("helm upgrade", out, err)
		if after := c.get("get", "pod", "bee", "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}"); after != before {
			t.Errorf("the pod was %s and is %s", before, after)
		}
	})

	t.Run("uninstall refuses while pods run", func(t *testing.T) {
		c := &cluster{t, c.kubeconfig, c.registry, c.image}
		// helm 4.0's default way to wait does not notice that a hook has failed before the time is up.
		out, err := c.helm("uninstall", "hachi", "--wait=legacy", "--timeout", "3m")
		t.Logf("helm uninstall: %v\n%s", err, out)
		if err == nil {
			t.Fatalf("helm uninstall went through:\n%s", out)
		}
		if log, _ := c.kubectl("-n", namespace, "logs", "job/hachi-uninstall"); !strings.Contains(log, "pods use the RuntimeClass hachi: default/bee (delete them first") {
			t.Errorf("the job says %q; helm says %q", log, out)
		}
		if got := c.get("get", "nodes", "-l", "hachi.run/ready=true", "-o", "jsonpath={.items[*].metadata.name}"); got != nodes {
			t.Errorf("ready: %q, want %q", got, nodes)
		}
	})

	c.get("delete", "pod", "bee", "--grace-period=2")
	out, err = c.helm("uninstall", "hachi", "--timeout", "5m")
	c.must("helm uninstall", out, err)
	if left := ready(); left != "" {
		t.Errorf("still labelled: %s", left)
	}
	for _, name := range []string{"/etc/containerd/conf.d/hachi.toml", "/opt/hachi", "/etc/containerd/config.toml.before-hachi", "/var/lib/hachi", "/run/hachi"} {
		if out, err := c.kubectl("exec", "look", "--", "ls", "-d", "/host"+name); err == nil {
			t.Errorf("left on the node: %s", out)
		}
	}
	c.get("delete", "pod", "look", "--grace-period=1")
	if left, _ := c.kubectl("get", "clusterrole,clusterrolebinding,runtimeclass,validatingadmissionpolicy", "-l", "app.kubernetes.io/name=hachi", "-o", "name"); strings.Contains(left, "/") {
		t.Errorf("left in the cluster:\n%s", left)
	}
	c.get("delete", "namespace", namespace)
}

// bee starts a Wasm pod that speaks and stays.
func (c *cluster) bee() {
	c.Helper()
	dir := c.TempDir()
	src := "package main\nimport (\"fmt\"; \"time\")\nfunc main() { for { fmt.Println(\"bzz\"); time.Sleep(time.Second) } }\n"
	for name, text := range map[string]string{"main.go": src, "go.mod": "module bee\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			c.Fatal(err)
		}
	}
	cmd := exec.CommandContext(c.Context(), filepath.Join(testenv.Bin(c.T), "hachi"), "build", "--go", ".", "-t", c.registry+"/bee:v1", "--push")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("hachi build: %v\n%s", err, out)
	}
	c.apply(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"bee","namespace":"default"},"spec":{"runtimeClassName":"hachi","containers":[{"name":"bee","image":"` + c.registry + `/bee:v1"}]}}`)
	out, err := c.kubectl("wait", "--for=condition=Ready", "pod/bee", "--timeout=120s")
	c.must("pod bee", out, err)
}

// onNode runs a command in a Linux pod that sees the node's files below /host; the pod stays.
func (c *cluster) onNode(command string) {
	c.Helper()
	c.apply(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"look","namespace":"default"},"spec":{"terminationGracePeriodSeconds":1,"tolerations":[{"operator":"Exists"}],
		"volumes":[{"name":"host","hostPath":{"path":"/"}}],
		"containers":[{"name":"look","image":"` + c.registry + `/hachi-test/busybox:1","command":["sleep","100000"],"volumeMounts":[{"name":"host","mountPath":"/host"}]}]}}`)
	out, err := c.kubectl("wait", "--for=condition=Ready", "pod/look", "--timeout=60s")
	c.must("pod look", out, err)
	c.get("exec", "look", "--", "sh", "-c", command)
}

// restarts are the installers' restart counts.
func (c *cluster) restarts() string {
	c.Helper()
	return c.get("-n", namespace, "get", "pods", "-l", "app.kubernetes.io/component=installer", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
}

// onlyItsLabels tries, with the installer's rights on a node, what it must not do.
func (c *cluster) onlyItsLabels(node string) {
	c.Helper()
	pod := c.get("-n", namespace, "get", "pods", "-l", "app.kubernetes.io/component=installer", "--field-selector", "spec.nodeName="+node, "-o", "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}")
	name, uid, _ := strings.Cut(pod, " ")
	bound := c.get("-n", namespace, "create", "token", "hachi-installer", "--bound-object-kind=Pod", "--bound-object-name="+name, "--bound-object-uid="+uid)
	free := c.get("-n", namespace, "create", "token", "hachi-installer")
	const refused = "hachi's installer may change only"
	for _, try := range []struct{ what, token, patch, says string }{
		{"its label", bound, `{"metadata":{"labels":{"hachi.run/version":"x"}}}`, `"hachi.run/version":"x"`},
		{"another label", bound, `{"metadata":{"labels":{"kubernetes.io/hostname":"x"}}}`, refused + " labels"},
		{"removing a label", bound, `{"metadata":{"labels":{"kubernetes.io/hostname":null}}}`, refused + " labels"},
		{"an annotation", bound, `{"metadata":{"annotations":{"a":"b"}}}`, refused + " labels"},
		{"the spec", bound, `{"spec":{"unschedulable":true}}`, refused + " labels"},
		{"its label without the pod's token", free, `{"metadata":{"labels":{"hachi.run/version":"y"}}}`, refused + " the node"},
	} {
		if got := strings.ReplaceAll(c.patchNode(node, try.token, try.patch), `": "`, `":"`); !strings.Contains(got, try.says) {
			c.Errorf("%s: got %s; want it to say %s", try.what, got, try.says)
		}
	}
}

// patchNode sends one patch, as the installer does, and returns the answer. kubectl would read the node first.
func (c *cluster) patchNode(node, token, patch string) string {
	c.Helper()
	config := c.get("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server} {.clusters[0].cluster.certificate-authority-data}")
	server, ca, _ := strings.Cut(config, " ")
	pem, err := base64.StdEncoding.DecodeString(ca)
	if err != nil {
		c.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(c.Context(), http.MethodPatch, server+"/api/v1/nodes/"+node, strings.NewReader(patch))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/merge-patch+json")
	answer, err := client.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.Fatal(err)
	}
	return string(text)
}

// show logs what helps to see why a test failed.
func (c *cluster) show() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"get", "nodes", "--show-labels"}, {"get", "pods", "-A", "-o", "wide"}, {"-n", namespace, "describe", "pods"},
		{"-n", namespace, "logs", "-l", "app.kubernetes.io/instance=hachi", "--prefix", "--tail=50"},
		{"describe", "pod", "bee"},
	} {
		out, _ := exec.CommandContext(ctx, source(c.T, "bin/tools/kubectl"), append([]string{"--kubeconfig", c.kubeconfig}, args...)...).CombinedOutput()
		c.Logf("kubectl %s:\n%s", strings.Join(args, " "), out)
	}
}
