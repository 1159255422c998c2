package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	criName     = "runtime handler"
	runtimeType = "io.containerd.hachi.v1"
	// annotation is a name that the handler must hand on.
	annotation = "hachi.run/listen"
)

// criConfig is what CRI's verbose status says of containerd's configuration; the names are those of
// internal/cri/config, in containerd 1.7 (pkg/cri/config) as in 2.x.
type criConfig struct {
	Containerd struct {
		Runtimes map[string]struct {
			Type           string   `json:"runtimeType"`
			PodAnnotations []string `json:"PodAnnotations"`
		} `json:"runtimes"`
	} `json:"containerd"`
}

// handlers asks containerd's CRI service which runtime handlers are hachi's.
func handlers(ctx context.Context, conn *grpc.ClientConn) Finding {
	reply, err := runtimeapi.NewRuntimeServiceClient(conn).Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if status.Code(err) == codes.Unimplemented {
		return ok(criName, forKubernetes, "CRI is off in this containerd: it serves no kubelet")
	}
	if err != nil {
		return unknown(criName, forKubernetes, "CRI does not answer: %v", err)
	}
	return judgeHandlers(reply.GetInfo()["config"])
}

func judgeHandlers(config string) Finding {
	var c criConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return unknown(criName, forKubernetes, "CRI's configuration: %v", err)
	}
	var ours, mute []string
	for name, r := range c.Containerd.Runtimes {
		if r.Type != runtimeType {
			continue
		}
		ours = append(ours, name)
		if !slices.ContainsFunc(r.PodAnnotations, passes) {
			mute = append(mute, name)
		}
	}
	slices.Sort(ours)
	slices.Sort(mute)
	switch {
	case len(mute) > 0:
		return missing(criName, forKubernetes, fmt.Sprintf("pod_annotations = ['hachi.run/*'] for %s in containerd's config", strings.Join(mute, ", ")),
			"annotations of pods do not reach %s", strings.Join(mute, ", "))
	case len(ours) == 0:
		return ok(criName, forKubernetes, "none has runtime_type %q; ctr needs none, a RuntimeClass does", runtimeType)
	}
	return ok(criName, forKubernetes, "%s", strings.Join(ours, ", "))
}

// passes tells whether a pattern of pod_annotations lets hachi's names through. containerd matches with path.Match,
// in which a star ends at a slash.
func passes(pattern string) bool {
	return pattern == "hachi.run/*" || pattern == "*/*" || pattern == annotation
}
