package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// controlPlane lists etcd and the parts that speak to it or for it.
func controlPlane(l Layout, a *authority) []program {
	pki := a.file
	kube := func(name string) string { return l.Tool(kubernetesTools, name) }
	programs := []program{
		{name: "etcd", args: []string{l.Tool(etcdTools, "server"),
			"--data-dir", l.State("etcd"),
			"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
			"--listen-peer-urls", "http://" + hostIP + ":2380", "--initial-advertise-peer-urls", "http://" + hostIP + ":2380",
			"--initial-cluster", "default=http://" + hostIP + ":2380",
			"--cert-file", pki("etcd.crt"), "--key-file", pki("etcd.key"), "--client-cert-auth", "--trusted-ca-file", pki("ca.crt"),
			"--unsafe-no-fsync", "--log-level", "warn",
		}},
		{name: "kube-apiserver", args: []string{kube("kube-apiserver"),
			"--bind-address", hostIP, "--advertise-address", hostIP, "--secure-port", "6443",
			"--etcd-servers", etcdURL, "--etcd-cafile", pki("ca.crt"), "--etcd-certfile", pki("apiserver.crt"), "--etcd-keyfile", pki("apiserver.key"),
			"--tls-cert-file", pki("apiserver.crt"), "--tls-private-key-file", pki("apiserver.key"), "--client-ca-file", pki("ca.crt"),
			"--kubelet-certificate-authority", pki("ca.crt"), "--kubelet-client-certificate", pki("apiserver.crt"), "--kubelet-client-key", pki("apiserver.key"),
			"--kubelet-preferred-address-types", "InternalIP",
			"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file", pki("sa.pub"), "--service-account-signing-key-file", pki("sa.key"),
			"--service-cluster-ip-range", serviceCIDR, "--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction", "--allow-privileged",
			"--requestheader-client-ca-file", pki("ca.crt"), "--requestheader-allowed-names", "front-proxy-client",
			"--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers", "X-Remote-Group", "--requestheader-extra-headers-prefix", "X-Remote-Extra-",
			"--proxy-client-cert-file", pki("front-proxy.crt"), "--proxy-client-key-file", pki("front-proxy.key"),
			// The host has no kube-proxy: requests to an aggregated API go to its pods.
			"--enable-aggregator-routing", "--profiling=false",
		}},
		{name: "kube-controller-manager", args: []string{kube("kube-controller-manager"),
			"--bind-address", hostIP, "--kubeconfig", pki("controller-manager.kubeconfig"), "--use-service-account-credentials",
			"--tls-cert-file", pki("controller-manager.crt"), "--tls-private-key-file", pki("controller-manager.key"),
			"--root-ca-file", pki("ca.crt"), "--service-account-private-key-file", pki("sa.key"),
			"--cluster-signing-cert-file", pki("ca.crt"), "--cluster-signing-key-file", pki("ca.key"),
			"--leader-elect=false", "--profiling=false",
			// Autoscaling that can be watched: the defaults wait for five minutes here and there.
			"--horizontal-pod-autoscaler-sync-period", "5s", "--horizontal-pod-autoscaler-cpu-initialization-period", "10s",
			"--horizontal-pod-autoscaler-initial-readiness-delay", "5s",
		}},
		{name: "kube-scheduler", args: []string{kube("kube-scheduler"),
			"--bind-address", hostIP, "--kubeconfig", pki("scheduler.kubeconfig"),
			"--tls-cert-file", pki("scheduler.crt"), "--tls-private-key-file", pki("scheduler.key"),
			"--leader-elect=false", "--profiling=false",
		}},
	}
	for i := range programs {
		programs[i].log = l.Log(programs[i].name)
	}
	return programs
}

// kubectl is a kubectl command of the administrator.
func (l Layout) kubectl(args ...string) *exec.Cmd {
	return exec.Command(l.Tool(kubernetesTools, "kubectl"), append([]string{"--kubeconfig", l.Kubeconfig()}, args...)...)
}

// waitAPI returns when the API server is ready.
func waitAPI(ctx context.Context, k *keeper, l Layout) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		_, err := k.run(l.kubectl("get", "--raw", "/readyz", "--request-timeout", "5s"))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the API server: %w (see %s)", err, l.Log("kube-apiserver"))
		case <-time.After(300 * time.Millisecond):
		}
	}
}
