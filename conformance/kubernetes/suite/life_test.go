package suite

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRunToCompletion(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("once", "say", "hello,", "$(WHOM)", "$$(WHOM)")
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WHOM", Value: "bee"}}
		p = s.finish(p)
		if end := ended(p); p.Status.Phase != corev1.PodSucceeded || end.ExitCode != 0 || end.Reason != "Completed" {
			t.Errorf("phase %s, %+v; want Succeeded, 0, Completed", p.Status.Phase, end)
		}
		if got, want := s.kubectl("logs", "once"), "hello, bee $(WHOM)\n"; got != want {
			t.Errorf("log %q, want %q", got, want)
		}
	})
}

func TestExitCodes(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.finish(s.pod("three", "exit", "3"))
		if end := ended(p); p.Status.Phase != corev1.PodFailed || end.ExitCode != 3 || end.Reason != "Error" {
			t.Errorf("phase %s, %+v; want Failed, 3, Error", p.Status.Phase, end)
		}
		p = s.finish(s.pod("panic", "trap"))
		if end := ended(p); end.ExitCode != 2 {
			t.Errorf("a Go program that panics: %+v; want exit code 2", end)
		}
		if log := s.kubectl("logs", "panic"); !strings.Contains(log, "panic: as asked") {
			t.Errorf("log of a panic: %q", log)
		}
	})
}

func TestTerminationMessage(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("message", "write", "/dev/termination-log", "the reason")
		p.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
		if end := ended(s.finish(p)); end.Message != "the reason" {
			t.Errorf("message %q of %+v, want %q", end.Message, end, "the reason")
		}
		p = s.pod("log", "exit", "4")
		p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
		if end := ended(s.finish(p)); !strings.Contains(end.Message, "to stderr") {
			t.Errorf("message %q of %+v, want the log's end", end.Message, end)
		}
	})
}

func TestRestartPolicy(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("good", "say", "done")
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		if p = s.finish(p); p.Status.Phase != corev1.PodSucceeded || status(p).RestartCount != 0 {
			t.Errorf("OnFailure, exit code 0: phase %s, %d restarts", p.Status.Phase, status(p).RestartCount)
		}
		p = s.pod("bad", "exit", "5")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		s.create(p)
		// The state CrashLoopBackOff shows only if something makes kubelet look at the pod while it waits. The event
		// always comes.
		eventually(t, "kubelet backs off", soon, func() error {
			events, err := api.CoreV1().Events(s.name).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=bad,reason=BackOff"})
			if err == nil && len(events.Items) == 0 {
				err = errors.New("no event BackOff")
			}
			return err
		})
		s.until("bad", "restarted after exit code 5", func(p *corev1.Pod) bool {
			last := status(p).LastTerminationState.Terminated
			return status(p).RestartCount >= 1 && last != nil && last.ExitCode == 5
		})
		p = s.pod("once", "once", "/tmp/was-here", "6")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
		s.create(p)
		p = s.until("once", "running after a restart", func(p *corev1.Pod) bool {
			return status(p).RestartCount == 1 && status(p).State.Running != nil
		})
		if last := status(p).LastTerminationState.Terminated; last == nil || last.ExitCode != 6 {
			t.Errorf("last state %+v, want exit code 6", last)
		}
		if got, want := s.kubectl("logs", "--previous", "once"), "to stdout\nto stderr\n"; !sameLines(got, want) {
			t.Errorf("previous log %q, want %q", got, want)
		}
	})
}

// sameLines compares without order: a log joins two streams.
func sameLines(got, want string) bool {
	a, b := lines(got), lines(want)
	if len(a) != len(b) {
		return false
	}
	for _, line := range b {
		if !strings.Contains(got, line+"\n") {
			return false
		}
	}
	return true
}

func TestTermination(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		grace := int64(20)
		p := s.pod("web", "serve")
		p.Spec.TerminationGracePeriodSeconds = &grace
		p = s.run(p)
		type answer struct {
			text string
			err  error
		}
		answered := make(chan answer, 1)
		go func() {
			text, err := s.ask(p, "/slow", "ms", "4000")
			answered <- answer{text, err}
		}()
		time.Sleep(time.Second) // the request has to be on its way
		begin := time.Now()
		if err := api.CoreV1().Pods(s.name).Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		// A Go program that handles no signals ends at once under runc, in the middle of an answer; hachi ends the guest
		// when its last connection is done.
		if a := <-answered; s.kind == hachi && (a.err != nil || a.text != "slow but sure") {
			t.Errorf("the request that was open at the end: %q, %v", a.text, a.err)
		}
		s.gone("web")
		if took := time.Since(begin); s.kind == hachi && took >= time.Duration(grace)*time.Second {
			t.Errorf("the pod took %v to end, with its connections done after 3 s", took)
		}
	})
}

// gone waits until a pod is no more.
func (s *space) gone(name string) {
	s.t.Helper()
	eventually(s.t, "end of pod "+name, soon, func() error {
		if out, code := s.try("", "get", "pod", name); code == 0 {
			return fmt.Errorf("still there: %s", out)
		}
		return nil
	})
}

func TestPreStop(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		grace := int64(20)
		p := s.pod("hook", "serve")
		p.Spec.TerminationGracePeriodSeconds = &grace
		hostPath(p, "/var/tmp/"+s.name, "/shared")
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
			PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{s.kind.program, "write", "/shared/last", "words"}}},
		}
		s.run(p)
		s.kubectl("delete", "pod", "hook", "--wait=false")
		s.gone("hook")
		if got := onNode(t, "/var/tmp/"+s.name+"/last"); got != "words" {
			t.Errorf("the hook wrote %q, want %q", got, "words")
		}

		p = s.pod("poststart", "serve")
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
			PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{s.kind.program, "write", "/tmp/first", "act"}}},
		}
		p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
		p = s.run(p)
		if got := s.must(p, "/read", "path", "/tmp/first"); got != "act" {
			t.Errorf("the hook wrote %q, want %q", got, "act")
		}
	})
}

func TestOOMKilled(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("hungry", "eat", "300")
		p.Spec.Containers[0].Resources = limits("", "100Mi")
		end := ended(s.finish(p))
		if end.ExitCode != 137 || end.Reason != "OOMKilled" {
			t.Errorf("%+v; want 137, OOMKilled", end)
		}
	})
}
