package suite

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hachi-run/hachi/conformance/kubernetes/cluster"
)

// busybox is a Linux container, in a pod of whichever kind.
func busybox(name, script string) corev1.Container {
	return corev1.Container{Name: name, Image: cluster.BusyboxImage, Command: []string{"sh", "-c", script}}
}

// Init containers, a native sidecar and two containers, by turns of the suite's kind and Linux.
func TestInitAndSidecars(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		always := corev1.ContainerRestartPolicyAlways
		sidecar := busybox("sidecar", "mkdir /www && echo from the sidecar > /www/index.html && exec httpd -f -p 8081 -h /www")
		sidecar.RestartPolicy = &always
		p := s.serving("mixed")
		p.Spec.InitContainers = []corev1.Container{
			s.container("first", "write", "/shared/first", "first"),
			sidecar,
			s.container("second", "await", "localhost:8081"),
			busybox("third", "cat /shared/first > /shared/third; echo -n , third >> /shared/third"),
		}
		p.Spec.Containers = append(p.Spec.Containers, busybox("linux", "wget -qO /shared/linux localhost:8081; sleep 3600"))
		p.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		mount := []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
		for i := range p.Spec.InitContainers {
			p.Spec.InitContainers[i].VolumeMounts = mount
		}
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].VolumeMounts = mount
		}
		p = s.run(p)
		if got := s.must(p, "/read", "path", "/shared/third"); got != "first, third" {
			t.Errorf("the init containers wrote %q", got)
		}
		if got := s.must(p, "/get", "url", "http://localhost:8081/index.html"); got != "from the sidecar\n" {
			t.Errorf("the sidecar says %q", got)
		}
		if got := s.kubectl("exec", "mixed", "-c", "linux", "--", "wget", "-qO-", "localhost:8080/"); !strings.HasPrefix(got, "hello from mixed") {
			t.Errorf("from the Linux container: %q", got)
		}
		begin := time.Now()
		s.kubectl("delete", "pod", "mixed", "--wait=false")
		s.gone("mixed")
		t.Logf("the pod ended within %v", time.Since(begin).Round(time.Second))
	})
}

// Linux containers see each other's processes where the pod shares them, beside a container of the suite's kind.
func TestSharedProcessNamespace(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		yes := true
		p := s.serving("shared")
		p.Spec.ShareProcessNamespace = &yes
		p.Spec.Containers = append(p.Spec.Containers, busybox("one", "sleep 3601"), busybox("two", "sleep 3602"))
		s.run(p)
		eventually(t, "the other container's process", soon, func() error {
			if out := s.kubectl("exec", "shared", "-c", "one", "--", "ps"); !strings.Contains(out, "sleep 3602") {
				return errorf("ps in the first container: %s", out)
			}
			return nil
		})
		// To end it is the right of who shares it.
		s.kubectl("exec", "shared", "-c", "one", "--", "sh", "-c", "kill -9 $(pidof sleep | tr ' ' '\\n' | while read p; do grep -q 3602 /proc/$p/cmdline && echo $p; done)")
		s.until("shared", "without its second container", func(p *corev1.Pod) bool {
			for _, c := range p.Status.ContainerStatuses {
				if c.Name == "two" && c.State.Terminated != nil {
					return c.State.Terminated.ExitCode == 137
				}
			}
			return false
		})
		if got := s.must(s.get("shared"), "/"); !strings.HasPrefix(got, "hello from shared") {
			t.Errorf("the service says %q", got)
		}
	})
}

// A sidecar does not keep a pod from being done.
func TestSidecarOfJob(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		always := corev1.ContainerRestartPolicyAlways
		sidecar := s.container("sidecar", "serve")
		sidecar.RestartPolicy = &always
		p := s.pod("done", "await", "localhost:8080")
		p.Spec.InitContainers = []corev1.Container{sidecar}
		if p = s.finish(p); p.Status.Phase != corev1.PodSucceeded {
			t.Errorf("phase %s", p.Status.Phase)
		}
	})
}

func TestJob(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		three, two, limit := int32(3), int32(2), int32(1)
		job := func(name string, p *corev1.Pod) *batchv1.Job {
			return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{BackoffLimit: &limit, Template: corev1.PodTemplateSpec{Spec: p.Spec}}}
		}
		good := job("good", s.pod("", "say", "done"))
		good.Spec.Completions, good.Spec.Parallelism = &three, &two
		for _, j := range []*batchv1.Job{good, job("bad", s.pod("", "exit", "1"))} {
			if _, err := api.BatchV1().Jobs(s.name).Create(ctx, j, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		s.kubectl("wait", "--for=condition=Complete", "job/good", "--timeout=180s")
		s.kubectl("wait", "--for=condition=Failed", "job/bad", "--timeout=180s")
		for name, want := range map[string]batchv1.JobStatus{"good": {Succeeded: 3}, "bad": {Failed: 2}} {
			j, err := api.BatchV1().Jobs(s.name).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if j.Status.Succeeded != want.Succeeded || j.Status.Failed != want.Failed {
				t.Errorf("job %s: %d succeeded, %d failed", name, j.Status.Succeeded, j.Status.Failed)
			}
		}
	})
}

func TestCronJob(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		_, err := api.BatchV1().CronJobs(s.name).Create(ctx, &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Name: "minute"},
			Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{
				Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: s.pod("", "say", "tick").Spec}},
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "a run of the cron job", 3*time.Minute, func() error {
			c, err := api.BatchV1().CronJobs(s.name).Get(ctx, "minute", metav1.GetOptions{})
			if err == nil && c.Status.LastSuccessfulTime == nil {
				err = errorf("last scheduled %v", c.Status.LastScheduleTime)
			}
			return err
		})
	})
}

// A rolling update behind a service that is asked all the time.
func TestRollout(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.serving("web")
		// The time that kube-proxy needs to hear of it.
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}
		grace := int64(15)
		p.Spec.TerminationGracePeriodSeconds = &grace
		s.deployment(p, 2)
		address := s.service("web", "").Spec.ClusterIP
		eventually(t, "first answer", soon, func() error { _, err := ask(address, "/"); return err })

		var good, bad atomic.Int64
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				if text, err := ask(address, "/env", "name", "VERSION"); err != nil {
					bad.Add(1)
					t.Logf("a request failed: %q, %v", text, err)
				} else {
					good.Add(1)
				}
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}()
		s.kubectl("set", "env", "deployment/web", "VERSION=two")
		s.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
		close(stop)
		<-done
		if bad.Load() != 0 || good.Load() == 0 {
			t.Errorf("during the rollout %d requests failed and %d were answered", bad.Load(), good.Load())
		}
		eventually(t, "answer of the new version", soon, func() error {
			if got, err := ask(address, "/env", "name", "VERSION"); err != nil || got != "two" {
				return errorf("%q, %v", got, err)
			}
			return nil
		})
		s.kubectl("rollout", "undo", "deployment/web")
		s.kubectl("rollout", "status", "deployment/web", "--timeout=180s")
	})
}
