package suite

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// space is a namespace of one test, in which pods run one way.
type space struct {
	t    *testing.T
	kind kind
	name string
}

// newSpace makes a namespace; it goes, with all in it, when the test ends.
func newSpace(t *testing.T, k kind) *space {
	t.Helper()
	ns, err := api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "suite-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := &space{t: t, kind: k, name: ns.Name}
	t.Cleanup(func() {
		if t.Failed() {
			s.show()
		}
		if err := api.CoreV1().Namespaces().Delete(ctx, s.name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	// No pod is admitted before it is there.
	eventually(t, "service account", soon, func() error {
		_, err := api.CoreV1().ServiceAccounts(s.name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return s
}

// show logs what somebody who looks for the cause of a failure would ask for first.
func (s *space) show() {
	out, _ := s.command("describe", "pods").CombinedOutput()
	s.t.Logf("pods of %s:\n%s", s.name, out)
	pods, err := api.CoreV1().Pods(s.name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for _, p := range pods.Items {
		out, _ := s.command("logs", "--all-containers", "--prefix", "--tail=20", p.Name).CombinedOutput()
		s.t.Logf("logs of %s:\n%s", p.Name, out)
	}
}

// pod is a pod of one container, main, that runs actor with these words.
func (s *space) pod(name string, args ...string) *corev1.Pod {
	grace, no := int64(3), false
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{s.container("main", args...)},
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no,
		},
	}
	if s.kind.class != "" {
		p.Spec.RuntimeClassName = &s.kind.class
	}
	return p
}

func (s *space) container(name string, args ...string) corev1.Container {
	return corev1.Container{Name: name, Image: s.kind.image("actor"), Args: args}
}

// create gives a pod to the cluster.
func (s *space) create(p *corev1.Pod) {
	s.t.Helper()
	if _, err := api.CoreV1().Pods(s.name).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) get(name string) *corev1.Pod {
	s.t.Helper()
	p, err := api.CoreV1().Pods(s.name).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// run creates a pod and returns it when it is ready.
func (s *space) run(p *corev1.Pod) *corev1.Pod {
	s.t.Helper()
	s.create(p)
	return s.ready(p.Name)
}

func (s *space) ready(name string) *corev1.Pod {
	s.t.Helper()
	return s.until(name, "ready", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	})
}

// finish creates a pod and returns it when it has succeeded or failed.
func (s *space) finish(p *corev1.Pod) *corev1.Pod {
	s.t.Helper()
	s.create(p)
	return s.until(p.Name, "at its end", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// until returns the pod when ok says so.
func (s *space) until(name, what string, ok func(p *corev1.Pod) bool) *corev1.Pod {
	s.t.Helper()
	var p *corev1.Pod
	eventually(s.t, "pod "+name+" "+what, soon, func() error {
		if p = s.get(name); !ok(p) {
			return fmt.Errorf("phase %s, %s", p.Status.Phase, states(p))
		}
		return nil
	})
	return p
}

func states(p *corev1.Pod) string {
	var all []string
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		all = append(all, fmt.Sprintf("%s: %+v", c.Name, c.State))
	}
	return strings.Join(all, "; ")
}

// status is that of container main.
func status(p *corev1.Pod) corev1.ContainerStatus {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == "main" {
			return c
		}
	}
	return corev1.ContainerStatus{}
}

// ended is how container main ended; the zero value if it has not.
func ended(p *corev1.Pod) corev1.ContainerStateTerminated {
	if end := status(p).State.Terminated; end != nil {
		return *end
	}
	return corev1.ContainerStateTerminated{}
}

// command is a kubectl for this namespace, as a user would type it.
func (s *space) command(args ...string) *exec.Cmd {
	return exec.Command(layout.Tool("kubectl"), append([]string{"--kubeconfig", layout.Kubeconfig(), "-n", s.name}, args...)...)
}

// kubectl returns what kubectl printed on stdout; a failure ends the test.
func (s *space) kubectl(args ...string) string {
	s.t.Helper()
	out, code := s.try("", args...)
	if code != 0 {
		s.t.Fatalf("kubectl %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// try returns what kubectl printed, on stderr too if it failed, and its exit code.
func (s *space) try(stdin string, args ...string) (string, int) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if stdin == "" {
		cmd.Stdin = nil
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return stdout.String() + stderr.String(), exit.ExitCode()
	case err != nil:
		s.t.Fatal(err)
	}
	return stdout.String(), 0
}

// ask sends a request to a pod's service from outside of the cluster's nodes.
func (s *space) ask(p *corev1.Pod, path string, query ...string) (string, error) {
	return ask(p.Status.PodIP+":8080", path, query...)
}

// must is ask for what cannot fail.
func (s *space) must(p *corev1.Pod, path string, query ...string) string {
	s.t.Helper()
	text, err := s.ask(p, path, query...)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// ask requests http://address/path; query has names and values by turns.
func ask(address, path string, query ...string) (string, error) {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path + "?" + values.Encode())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %v: %s: %s", path, query, resp.Status, text)
	}
	return string(text), err
}
