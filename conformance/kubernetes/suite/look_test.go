package suite

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/hachi-run/hachi/conformance/kubernetes/cluster"
)

func TestLogs(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.finish(s.pod("count", "count", "10"))
		if got := lines(s.kubectl("logs", "count")); len(got) != 10 || got[9] != "line 9" {
			t.Errorf("log %q, want line 0 to line 9", got)
		}
		if got, want := s.kubectl("logs", "--tail=2", "count"), "line 8\nline 9\n"; got != want {
			t.Errorf("tail %q, want %q", got, want)
		}
		if got := s.kubectl("logs", "--timestamps", "--limit-bytes=20", "count"); !strings.HasPrefix(got, "20") {
			t.Errorf("timestamp %q", got)
		}
		s.run(s.pod("on", "count"))
		follow := s.command("logs", "--follow", "on")
		out, err := follow.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := follow.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(out)
		for i := 0; i < 15 && in.Scan(); i++ {
			if i == 14 && in.Text() != "line 14" {
				t.Errorf("the 15th line that was followed is %q", in.Text())
			}
		}
		if err := in.Err(); err != nil {
			t.Error(err)
		}
		_ = follow.Process.Kill()
		_ = follow.Wait()
	})
}

func TestExec(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.run(s.pod("web", "serve"))
		tests := []struct {
			name, stdin string
			args        []string
			want        string
			code        int
		}{
			{"a word", "", []string{"web", "--", "cat", "/etc/hostname"}, "web\n", 0},
			{"the container's environment", "", []string{"web", "--", s.kind.program, "get", "http://localhost:8080/env?name=HOSTNAME"}, "web", 0},
			{"the program again", "", []string{"web", "--", s.kind.program, "say", "hi"}, "hi\n", 0},
			{"exit code", "", []string{"web", "--", s.kind.program, "exit", "9"}, "to stdout\n", 9},
			{"failure of a word", "", []string{"web", "--", "false"}, "", 1},
			{"stdin", "one\ntwo\n", []string{"-i", "web", "--", s.kind.program, "echo"}, "you said one\nyou said two\n", 0},
			{"stdin of a word", "as it came\n", []string{"-i", "web", "--", "cat"}, "as it came\n", 0},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				out, code := s.try(test.stdin, append([]string{"exec"}, test.args...)...)
				if code != test.code || !strings.HasPrefix(out, test.want) {
					t.Errorf("exit code %d, %q; want %d, %q", code, out, test.code, test.want)
				}
			})
		}
		if out, code := s.try("", "exec", "web", "--", "no-such-word"); code == 0 {
			t.Errorf("a command that does not exist: exit code 0, %q", out)
		}
	})
}

func TestAttach(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("parrot", "echo")
		p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true
		s.run(p)
		out, code := s.try("one\ntwo\n", "attach", "-i", "parrot")
		if code != 0 || !strings.Contains(out, "you said two\n") {
			t.Errorf("exit code %d, %q", code, out)
		}
		s.until("parrot", "at its end", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
		if got, want := s.kubectl("logs", "parrot"), "you said one\nyou said two\n"; got != want {
			t.Errorf("log %q, want %q", got, want)
		}
	})
}

func TestPortForward(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.run(s.pod("web", "serve"))
		forward := s.command("port-forward", "web", ":8080", "--address", "127.0.0.1")
		out, err := forward.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := forward.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = forward.Process.Kill()
			_ = forward.Wait()
		}()
		first, err := bufio.NewReader(out).ReadString('\n') // Forwarding from 127.0.0.1:40123 -> 8080
		if err != nil {
			t.Fatal(err)
		}
		address := strings.Fields(strings.TrimPrefix(first, "Forwarding from "))[0]
		if _, _, err := net.SplitHostPort(address); err != nil {
			t.Fatalf("%q: %v", first, err)
		}
		for range 3 {
			if got, err := ask(address, "/"); err != nil || !strings.HasPrefix(got, "hello from web") {
				t.Errorf("through the forwarded port: %q, %v", got, err)
			}
		}
	})
}

func TestCopy(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("web", "serve")
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		p = s.run(p)
		here := filepath.Join(t.TempDir(), "note")
		if err := os.WriteFile(here, []byte("from here"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.kubectl("cp", here, "web:/data/note")
		if got := s.must(p, "/read", "path", "/data/note"); got != "from here" {
			t.Errorf("copied there: %q", got)
		}
		s.must(p, "/write", "path", "/data/answer", "text", "from there")
		s.kubectl("cp", "web:/data/answer", here)
		if got, err := os.ReadFile(here); err != nil || string(got) != "from there" {
			t.Errorf("copied here: %q, %v", got, err)
		}
	})
}

func TestDebugContainer(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.run(s.pod("web", "serve"))
		s.kubectl("debug", "web", "--image="+cluster.BusyboxImage, "-c", "look", "--profile=general", "--", "sh", "-c", "hostname; wget -qO- localhost:8080/")
		p := s.until("web", "with its debug container done", func(p *corev1.Pod) bool {
			e := p.Status.EphemeralContainerStatuses
			return len(e) == 1 && e[0].State.Terminated != nil
		})
		if got, want := s.kubectl("logs", "web", "-c", "look"), "web\nhello from web ("; !strings.HasPrefix(got, want) {
			t.Errorf("the debug container says %q, want %q; it ended %+v", got, want, p.Status.EphemeralContainerStatuses[0].State)
		}
	})
}
