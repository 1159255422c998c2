package suite

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSecurityContext(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		user, group, files, yes, no := int64(1234), int64(1235), int64(4321), true, false
		p := s.serving("guard")
		p.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsUser: &user, RunAsGroup: &group, FSGroup: &files, RunAsNonRoot: &yes,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
		p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
		p = s.run(p)

		s.must(p, "/write", "path", "/tmp/mine", "text", "x")
		path := filepath.Join(layout.State("node1", "root"), "/var/lib/kubelet/pods", string(p.UID), "volumes/kubernetes.io~empty-dir/tmp/mine")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != uint32(user) || st.Gid != uint32(files) {
			t.Errorf("a new file is of user %d, group %d; want %d, %d", st.Uid, st.Gid, user, files)
		}
		if _, err := s.ask(p, "/write", "path", "/new", "text", "x"); err == nil || !strings.Contains(strings.ToLower(err.Error()), "read-only") {
			t.Errorf("write to the root: %v, want a read-only file system", err)
		}
		if got := s.kubectl("exec", "guard", "--", "id"); !strings.Contains(got, "uid=1234") || !strings.Contains(got, "gid=1235") {
			t.Errorf("id: %q", got)
		}

		// The process that does the work, as the kernel sees it.
		want := map[string]string{"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}
		for key, value := range processStatus(t, p) {
			if w, ok := want[key]; ok && value != w {
				t.Errorf("%s is %s, want %s", key, value, w)
			}
		}
	})
}

// processStatus is proc(5), status, of the first process in the cgroup of container main.
func processStatus(t *testing.T, p *corev1.Pod) map[string]string {
	t.Helper()
	procs, err := cgroupValue(p, "cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(procs, "\n")
	raw, err := os.ReadFile("/proc/" + first + "/status")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			values[key] = strings.TrimSpace(value)
		}
	}
	return values
}

// An image whose user is root does not start where that is forbidden.
func TestRunAsNonRoot(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		yes := true
		p := s.pod("root", "say", "hi")
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: &yes}
		s.create(p)
		s.until("root", "refused", func(p *corev1.Pod) bool {
			w := status(p).State.Waiting
			return w != nil && w.Reason == "CreateContainerConfigError"
		})
	})
}
