package suite

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var errorf = fmt.Errorf

func httpProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1, FailureThreshold: 2,
	}
}

func (s *space) unready(name string) {
	s.t.Helper()
	s.until(name, "not ready", func(p *corev1.Pod) bool {
		c := status(p)
		return c.State.Running != nil && !c.Ready
	})
}

func TestReadinessProbe(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("web", "serve")
		p.Spec.Containers[0].ReadinessProbe = httpProbe()
		p = s.run(p)
		s.must(p, "/health", "code", "500")
		s.unready("web")
		s.must(p, "/health", "code", "200")
		if p = s.ready("web"); status(p).RestartCount != 0 {
			t.Errorf("%d restarts", status(p).RestartCount)
		}
	})
}

func TestLivenessAndStartupProbe(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("web", "serve")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		p.Spec.Containers[0].LivenessProbe = httpProbe()
		p.Spec.Containers[0].StartupProbe = httpProbe()
		p.Spec.Containers[0].StartupProbe.FailureThreshold = 60
		p = s.run(p)
		if c := status(p); c.Started == nil || !*c.Started {
			t.Errorf("ready and not started: %+v", c)
		}
		s.must(p, "/health", "code", "500")
		s.until("web", "restarted", func(p *corev1.Pod) bool { return status(p).RestartCount == 1 && status(p).Ready })
	})
}

func TestOtherProbes(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.pod("probes", "serve")
		p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		probe := func(h corev1.ProbeHandler) *corev1.Probe {
			return &corev1.Probe{ProbeHandler: h, PeriodSeconds: 1, FailureThreshold: 60, TimeoutSeconds: 5}
		}
		c := &p.Spec.Containers[0]
		c.VolumeMounts = []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
		c.StartupProbe = probe(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}})
		c.ReadinessProbe = probe(corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"cat", "/tmp/ready"}}})
		c.ReadinessProbe.FailureThreshold = 1
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "health", Image: s.kind.image("health")})
		p.Spec.Containers[1].ReadinessProbe = probe(corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9090}})
		s.create(p)
		p = s.until("probes", "with one container ready", func(p *corev1.Pod) bool {
			if len(p.Status.ContainerStatuses) != 2 {
				return false
			}
			health, main := p.Status.ContainerStatuses[0], p.Status.ContainerStatuses[1] // by name
			return main.Started != nil && *main.Started && !main.Ready && health.Ready
		})
		s.must(p, "/write", "path", "/tmp/ready", "text", "yes")
		s.ready("probes")
	})
}
