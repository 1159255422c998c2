package chart

import (
	"strings"
	"testing"
)

// Bad values are refused by name, with what would be right.
func TestBadValues(t *testing.T) {
	for set, says := range map[string]string{
		"installer.containerd.restart=now":       "at '/installer/containerd/restart': value must be one of 'auto', 'systemd', 'signal'",
		"installer.sandboxer=pod":                "at '/installer/sandboxer': value must be one of 'podsandbox', 'shim'",
		"installer.dir=opt/hachi":                "at '/installer/dir': 'opt/hachi' does not match pattern",
		"installer.dir=/":                        "at '/installer/dir'",
		"installer.containerd.timeout=60":        "at '/installer/containerd/timeout': got number, want string",
		"installer.containerd.timeout=1 minute":  "at '/installer/containerd/timeout': '1 minute' does not match pattern",
		"installer.containerd.socket=c.sock":     "at '/installer/containerd/socket'",
		"installer.maxUnavailable=0":             "at '/installer/maxUnavailable'",
		"installer.dirs=/x":                      "at '/installer': additional properties 'dirs' not allowed",
		"instaler.dir=/x":                        "additional properties 'instaler' not allowed",
		"agent.port=70000":                       "at '/agent/port': maximum: got 70,000, want 65,535",
		"agent.logLevel=trace":                   "at '/agent/logLevel': value must be one of 'debug', 'info', 'warn', 'error'",
		"agent.enabled=maybe":                    "at '/agent/enabled': got string, want boolean",
		"runtimeClass.name=Hachi":                "at '/runtimeClass/name': 'Hachi' does not match pattern",
		"runtimeClass.handler=a.b":               "at '/runtimeClass/handler'",
		"runtimeClass.overhead.memory=12 MB":     "at '/runtimeClass/overhead/memory'",
		"image.digest=sha256:12":                 "at '/image/digest'",
		"image.pullPolicy=Sometimes":             "at '/image/pullPolicy'",
		"image.repository=":                      "at '/image/repository'",
		"installer.tolerations[0].operator=Like": "at '/installer/tolerations/0/operator': value must be one of 'Exists', 'Equal'",
		"installer.resources.limits.memory=much": "at '/installer/resources/limits/memory'",
		"imagePullSecrets[0]=registry":           "at '/imagePullSecrets/0': got string, want object",
	} {
		t.Run(set, func(t *testing.T) {
			text, err := render(t, "--set", set)
			if err == nil || !strings.Contains(text, says) {
				t.Errorf("got %v\n%s\nwant it to say %s", err, text, says)
			}
		})
	}
}

func TestServiceMonitorNeedsItsService(t *testing.T) {
	text, err := render(t, "--set", "agent.serviceMonitor.enabled=true,agent.service.enabled=false")
	if err == nil || !strings.Contains(text, "agent.serviceMonitor.enabled needs agent.service.enabled") {
		t.Errorf("got %v\n%s", err, text)
	}
}

func TestOldClustersAreRefused(t *testing.T) {
	_, stderr, err := helm(t, "template", "hachi", source(t, "charts/hachi"), "--kube-version", "1.29.3")
	if err == nil || !strings.Contains(stderr, "chart requires kubeVersion: >=1.30.0-0") {
		t.Errorf("got %v\n%s", err, stderr)
	}
}
