package suite

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestResourcesAndResize(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.serving("web")
		p.Spec.Containers[0].Resources = limits("200m", "128Mi")
		p = s.run(p)
		check := func(memory, cpu string) error {
			m, err := cgroupValue(p, "memory.limit_in_bytes", "memory.max")
			if err != nil {
				return err
			}
			c, err := cgroupValue(p, "cpu.cfs_quota_us", "cpu.max")
			if err == nil && (m != memory || strings.Fields(c)[0] != cpu) {
				err = errorf("memory %s, CPU quota %s; want %s, %s", m, c, memory, cpu)
			}
			return err
		}
		if err := check("134217728", "20000"); err != nil {
			t.Error(err)
		}
		s.kubectl("patch", "pod", "web", "--subresource", "resize", "-p",
			`{"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "400m", "memory": "192Mi"}, "limits": {"cpu": "400m", "memory": "192Mi"}}}]}}`)
		eventually(t, "resized cgroup", soon, func() error { return check("201326592", "40000") })
		p = s.until("web", "with its new resources in its status", func(p *corev1.Pod) bool {
			r := status(p).Resources
			return r != nil && r.Limits.Cpu().String() == "400m" && r.Limits.Memory().String() == "192Mi"
		})
		if status(p).RestartCount != 0 || !strings.HasPrefix(s.must(p, "/"), "hello from web") {
			t.Errorf("after the resize: %d restarts", status(p).RestartCount)
		}
	})
}

// summary is the part of kubelet's summary that is looked at.
type summary struct {
	Pods []struct {
		PodRef  struct{ Name, Namespace string }
		Network struct{ RxBytes, TxBytes uint64 }
		CPU     struct{ UsageNanoCores, UsageCoreNanoSeconds uint64 }
		Memory  struct{ WorkingSetBytes uint64 }

		Containers []struct {
			Name   string
			CPU    struct{ UsageNanoCores, UsageCoreNanoSeconds uint64 }
			Memory struct{ WorkingSetBytes uint64 }
		}
	}
}

func TestMetrics(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.serving("busy")
		p.Spec.Containers[0].Resources = limits("500m", "256Mi")
		p = s.run(p)
		for range 20 {
			s.must(p, "/")
		}
		spinning, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			for spinning.Err() == nil {
				_, _ = s.ask(p, "/spin", "ms", "2000")
			}
		}()

		eventually(t, "CPU, memory and network in kubelet's summary", soon, func() error {
			var all summary
			if err := getJSON("/api/v1/nodes/node1/proxy/stats/summary", &all); err != nil {
				return err
			}
			for _, p := range all.Pods {
				if p.PodRef.Namespace != s.name || len(p.Containers) != 1 {
					continue
				}
				// The limit is half a core, on a machine that has more to do.
				c := p.Containers[0]
				if c.CPU.UsageNanoCores < 20e6 || c.CPU.UsageNanoCores > 700e6 || c.Memory.WorkingSetBytes < 1<<20 || c.Memory.WorkingSetBytes > 256<<20 ||
					p.Memory.WorkingSetBytes < c.Memory.WorkingSetBytes/2 || p.CPU.UsageCoreNanoSeconds == 0 || p.Network.RxBytes < 1000 || p.Network.TxBytes < 1000 {
					return errorf("%+v", p)
				}
				return nil
			}
			return errorf("no pod of %s", s.name)
		})
		eventually(t, "the container in /metrics/resource", soon, func() error {
			raw, err := api.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/node1/proxy/metrics/resource").DoRaw(ctx)
			if err != nil {
				return err
			}
			for _, want := range []string{
				`container_cpu_usage_seconds_total{container="main",namespace="` + s.name + `",pod="busy"} `,
				`container_memory_working_set_bytes{container="main",namespace="` + s.name + `",pod="busy"} `,
				`pod_memory_working_set_bytes{namespace="` + s.name + `",pod="busy"} `,
			} {
				if !strings.Contains(string(raw), want) {
					return errorf("no %s", want)
				}
			}
			return nil
		})
		eventually(t, "kubectl top", 3*time.Minute, func() error {
			out, code := s.try("", "top", "pod", "busy", "--containers", "--no-headers")
			if f := strings.Fields(out); code != 0 || len(f) != 4 || f[1] != "main" || !strings.HasSuffix(f[2], "m") || f[2] == "0m" || f[3] == "0Mi" {
				return errorf("%s", out)
			}
			return nil
		})
	})
}

func getJSON(path string, into any) error {
	raw, err := api.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(ctx)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func TestAutoscaling(t *testing.T) {
	alone(t, func(t *testing.T, s *space) {
		p := s.serving("web")
		p.Spec.Containers[0].Resources = limits("100m", "256Mi")
		s.deployment(p, 1)
		address := s.service("web", "").Spec.ClusterIP
		percent := int32(50)
		_, err := api.AutoscalingV2().HorizontalPodAutoscalers(s.name).Create(ctx, &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: "web"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 2,
				Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
				}}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		busy, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			for busy.Err() == nil {
				_, _ = ask(address, "/spin", "ms", "2000")
			}
		}()
		eventually(t, "a second pod", 4*time.Minute, func() error {
			d, err := api.AppsV1().Deployments(s.name).Get(ctx, "web", metav1.GetOptions{})
			if err == nil && d.Status.ReadyReplicas < 2 {
				err = errorf("%d pods ready", d.Status.ReadyReplicas)
			}
			return err
		})
	})
}
