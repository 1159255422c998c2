package suite

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// settings makes a ConfigMap and a Secret.
func (s *space) settings() {
	s.t.Helper()
	meta := metav1.ObjectMeta{Name: "settings"}
	if _, err := api.CoreV1().ConfigMaps(s.name).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"COLOR": "amber", "text": "old"}}, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := api.CoreV1().Secrets(s.name).Create(ctx, &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"word": "honey"}}, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func TestEnvironment(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.settings()
		name := corev1.LocalObjectReference{Name: "settings"}
		field := func(path string) *corev1.EnvVarSource {
			return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
		}
		p := s.pod("env", "env")
		c := &p.Spec.Containers[0]
		c.Resources = limits("250m", "128Mi")
		c.EnvFrom = []corev1.EnvFromSource{{Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name}}}
		c.Env = []corev1.EnvVar{
			{Name: "PLAIN", Value: "a b=c"},
			{Name: "JOINED", Value: "$(PLAIN)!"},
			{Name: "WORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name, Key: "word"}}},
			{Name: "TEXT", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name, Key: "text"}}},
			{Name: "POD", ValueFrom: field("metadata.name")},
			{Name: "SPACE", ValueFrom: field("metadata.namespace")},
			{Name: "LABEL", ValueFrom: field("metadata.labels['app']")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")},
			{Name: "IP", ValueFrom: field("status.podIP")},
			{Name: "LIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"}}},
		}
		p = s.finish(p)
		got := lines(s.kubectl("logs", "env"))
		for _, want := range []string{
			"PLAIN=a b=c", "JOINED=a b=c!", "CM_COLOR=amber", "CM_text=old", "WORD=honey", "TEXT=old", "POD=env", "SPACE=" + s.name, "LABEL=env",
			"NODE=node1", "IP=" + p.Status.PodIP, "LIMIT=134217728", "KUBERNETES_SERVICE_HOST=10.96.0.1", "HOSTNAME=env",
		} {
			if !slices.Contains(got, want) {
				t.Errorf("no %s in %q", want, got)
			}
		}
	})
}

func TestVolumes(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		s.settings()
		p := s.serving("disk")
		volume := func(name string, source corev1.VolumeSource, m corev1.VolumeMount) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
			m.Name = name
			p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, m)
		}
		name, hour, readable := corev1.LocalObjectReference{Name: "settings"}, int64(3600), int32(0o400)
		volume("empty", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, corev1.VolumeMount{MountPath: "/empty"})
		volume("memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}, corev1.VolumeMount{MountPath: "/memory"})
		volume("map", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name}}, corev1.VolumeMount{MountPath: "/map"})
		volume("one", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name}}, corev1.VolumeMount{MountPath: "/etc/one", SubPath: "COLOR"})
		volume("secret", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "settings", DefaultMode: &readable}}, corev1.VolumeMount{MountPath: "/secret", ReadOnly: true})
		volume("down", corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
		}}}, corev1.VolumeMount{MountPath: "/down"})
		volume("token", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "bees", ExpirationSeconds: &hour, Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
		}}}, corev1.VolumeMount{MountPath: "/token"})
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: "empty", MountPath: "/part", SubPath: "a/b"}, corev1.VolumeMount{Name: "empty", MountPath: "/look", ReadOnly: true})
		hostPath(p, "/var/tmp/"+s.name, "/host")
		p = s.run(p)

		for path, want := range map[string]string{
			"/map/COLOR": "amber", "/etc/one": "amber", "/secret/word": "honey", "/down/labels": `app="disk"`,
		} {
			if got := s.must(p, "/read", "path", path); got != want {
				t.Errorf("%s holds %q, want %q", path, got, want)
			}
		}
		if got := s.must(p, "/read", "path", "/token/token"); strings.Count(got, ".") != 2 {
			t.Errorf("the token %.20q... is no JWT", got)
		}
		if got := s.must(p, "/read", "path", "/token/ca.crt"); !strings.HasPrefix(got, "-----BEGIN CERTIFICATE") {
			t.Errorf("the CA is %.40q", got)
		}
		for _, dir := range []string{"/empty", "/memory", "/host", "/part"} {
			s.must(p, "/write", "path", dir+"/file", "text", "in "+dir)
			if got := s.must(p, "/read", "path", dir+"/file"); got != "in "+dir {
				t.Errorf("%s/file holds %q", dir, got)
			}
		}
		if got := s.must(p, "/read", "path", "/empty/a/b/file"); got != "in /part" {
			t.Errorf("the subPath's file, seen from above, holds %q", got)
		}
		if got := onNode(t, "/var/tmp/"+s.name+"/file"); got != "in /host" {
			t.Errorf("the node's file holds %q", got)
		}
		for _, dir := range []string{"/look", "/secret", "/map", "/token"} {
			if _, err := s.ask(p, "/write", "path", dir+"/new", "text", "x"); err == nil || !strings.Contains(strings.ToLower(err.Error()), "read-only") {
				t.Errorf("write to %s: %v, want a read-only file system", dir, err)
			}
		}

		// A changed ConfigMap reaches a volume of the pod that runs; kubelet looks when the pod changes.
		s.kubectl("patch", "configmap", "settings", "-p", `{"data": {"text": "new"}}`)
		s.kubectl("annotate", "pod", "disk", "look=again")
		eventually(t, "new text in the volume", soon, func() error {
			if got, err := s.ask(p, "/read", "path", "/map/text"); err != nil || got != "new" {
				return errorf("%q, %v", got, err)
			}
			return nil
		})
	})
}

// What the service account's token is for: a guest that asks the API.
func TestServiceAccount(t *testing.T) {
	both(t, func(t *testing.T, s *space) {
		yes := true
		p := s.pod("api", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/namespace")
		p.Spec.AutomountServiceAccountToken = &yes
		s.finish(p)
		if got, want := s.kubectl("logs", "api"), "/var/run/secrets/kubernetes.io/serviceaccount/namespace: "+s.name+"\n"; got != want {
			t.Errorf("log %q, want %q", got, want)
		}
	})
}
