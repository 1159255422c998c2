package suite

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// deployment runs copies of a pod and waits until they are ready.
func (s *space) deployment(p *corev1.Pod, replicas int32) {
	s.t.Helper()
	s.replicate(p, replicas)
	s.kubectl("rollout", "status", "deployment/"+p.Name, "--timeout=180s")
}

// replicate asks for copies of a pod.
func (s *space) replicate(p *corev1.Pod, replicas int32) {
	s.t.Helper()
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	_, err := api.AppsV1().Deployments(s.name).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: p.Labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: p.Labels}, Spec: p.Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
}

// service puts port 80 of a name before port 8080 of the pods with the label app=name.
func (s *space) service(name, ip string) *corev1.Service {
	s.t.Helper()
	svc, err := api.CoreV1().Services(s.name).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: ip, Selector: map[string]string{"app": strings.TrimSuffix(name, "-headless")},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return svc
}

// serving is a pod with a web service and a probe that knows when it is there.
func (s *space) serving(name string) *corev1.Pod {
	p := s.pod(name, "serve")
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}},
		PeriodSeconds: 1,
	}
	return p
}

func TestServiceAndDNS(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.deployment(s.serving("web"), 2)
		web, headless := s.service("web", ""), s.service("web-headless", corev1.ClusterIPNone)
		client := s.run(s.serving("client"))

		names := map[string]bool{}
		eventually(t, "answers of both pods, by the short name", soon, func() error {
			text, err := s.ask(client, "/get", "url", "http://web/")
			if err != nil {
				return err
			}
			if names[strings.TrimSpace(text)] = true; len(names) < 2 {
				return fmt.Errorf("heard of %v", names)
			}
			return nil
		})
		for name := range names {
			if !strings.HasPrefix(name, "hello from web-") {
				t.Errorf("an answer: %q", name)
			}
		}
		full := "web." + s.name + ".svc.cluster.local"
		if got := s.must(client, "/lookup", "host", full); got != web.Spec.ClusterIP {
			t.Errorf("%s is %q, want %q", full, got, web.Spec.ClusterIP)
		}
		if got := strings.Fields(s.must(client, "/lookup", "host", headless.Name)); len(got) != 2 || slices.Contains(got, web.Spec.ClusterIP) {
			t.Errorf("the headless service is %q, want two pods", got)
		}
		if got := s.must(client, "/lookup", "host", "kubernetes.default"); got != "10.96.0.1" {
			t.Errorf("kubernetes.default is %q", got)
		}
		// Of the cluster's own: for others the cluster's DNS has nobody to ask.
		if text, err := s.ask(client, "/lookup", "host", "no-such-name."+s.name+".svc.cluster.local."); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Errorf("a name that does not exist: %q, %v", text, err)
		}
		if text, err := ask(web.Spec.ClusterIP, "/"); err != nil || !strings.HasPrefix(text, "hello from web-") {
			t.Errorf("from outside of the cluster: %q, %v", text, err)
		}
	})
}

// Pods of the two kinds talk to each other, in both directions.
func TestAcrossKinds(t *testing.T) {
	alone(t, func(t *testing.T, s *space) {
		other := &space{t: t, kind: runc, name: s.name}
		wasm, linux := s.run(s.serving("wasm")), other.run(other.serving("linux"))
		for from, to := range map[*corev1.Pod]*corev1.Pod{wasm: linux, linux: wasm} {
			got, err := s.ask(from, "/get", "url", "http://"+to.Status.PodIP+":8080/")
			if err != nil || !strings.HasPrefix(got, "hello from "+to.Name) {
				t.Errorf("%s to %s: %q, %v", from.Name, to.Name, got, err)
			}
		}
	})
}

func TestLocalhost(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		p := s.serving("pair")
		p.Spec.Containers = append(p.Spec.Containers, s.container("second", "serve", "8081"))
		p = s.run(p)
		if got, err := s.ask(p, "/get", "url", "http://localhost:8081/"); err != nil || !strings.HasPrefix(got, "hello from pair") {
			t.Errorf("the other container: %q, %v", got, err)
		}
	})
}

func TestHostPort(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		port := map[string]int32{"hachi": 18080, "runc": 18081}[s.kind.name]
		p := s.serving("web")
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: port}}
		p = s.run(p)
		if got, err := ask(fmt.Sprintf("%s:%d", p.Status.HostIP, port), "/"); err != nil || !strings.HasPrefix(got, "hello from web") {
			t.Errorf("through the node's port: %q, %v", got, err)
		}
	})
}

func TestHostNetwork(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		port := map[string]string{"hachi": "18082", "runc": "18083"}[s.kind.name]
		p := s.pod("web", "serve", port)
		p.Spec.HostNetwork = true
		p.Spec.DNSPolicy = corev1.DNSClusterFirstWithHostNet
		p = s.run(p)
		if p.Status.PodIP != p.Status.HostIP {
			t.Errorf("the pod's address is %s, the node's %s", p.Status.PodIP, p.Status.HostIP)
		}
		eventually(t, "answer", soon, func() error {
			_, err := ask(p.Status.HostIP+":"+port, "/")
			return err
		})
		if got, err := ask(p.Status.HostIP+":"+port, "/lookup", "host", "kubernetes.default.svc.cluster.local"); err != nil || got != "10.96.0.1" {
			t.Errorf("cluster DNS: %q, %v", got, err)
		}
	})
}
