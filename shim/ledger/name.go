package ledger

import (
	"cmp"
	"strings"
)

// Name is what people call a container.
type Name struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container"`
	// UID is the pod's in Kubernetes, else empty.
	UID string `json:"uid,omitempty"`
}

// Annotations of CRI on every container of a pod (containerd's pkg/cri/annotations).
const (
	namespaceAnnotation = "io.kubernetes.cri.sandbox-namespace"
	podAnnotation       = "io.kubernetes.cri.sandbox-name"
	containerAnnotation = "io.kubernetes.cri.container-name"
	uidAnnotation       = "io.kubernetes.cri.sandbox-uid"
)

// NameOf names a container by its annotations. One that is in no pod of Kubernetes is a pod of its own: it is called by
// its id, in containerd's namespace.
func NameOf(namespace, id string, annotations map[string]string) Name {
	n := Name{Namespace: namespace, Pod: id, Container: id, UID: annotations[uidAnnotation]}
	if pod := annotations[podAnnotation]; pod != "" {
		n.Pod = pod
		n.Namespace = cmp.Or(annotations[namespaceAnnotation], n.Namespace)
		n.Container = cmp.Or(annotations[containerAnnotation], n.Container)
	}
	return n
}

func (n Name) compare(o Name) int {
	return cmp.Or(strings.Compare(n.Namespace, o.Namespace), strings.Compare(n.Pod, o.Pod), strings.Compare(n.Container, o.Container))
}
