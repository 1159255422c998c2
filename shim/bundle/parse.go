package bundle

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// document is what hachi reads of a specification, under the specification's own names. Go's decoder builds tables for
// every type that it might meet, and for all of specs.Spec, with Windows, zones and virtual machines, that took a
// millisecond of every start.
type document struct {
	Version     string            `json:"ociVersion"`
	Process     *process          `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Mounts      []mount           `json:"mounts"`
	Annotations map[string]string `json:"annotations"`
	Linux       *linux            `json:"linux"`
}

type process struct {
	Terminal    bool                `json:"terminal"`
	User        specs.User          `json:"user"`
	Args        []string            `json:"args"`
	Env         []string            `json:"env"`
	Cwd         string              `json:"cwd"`
	Rlimits     []specs.POSIXRlimit `json:"rlimits"`
	OOMScoreAdj *int                `json:"oomScoreAdj"`
}

type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

type linux struct {
	Sysctl        map[string]string      `json:"sysctl"`
	Resources     *resources             `json:"resources"`
	CgroupsPath   string                 `json:"cgroupsPath"`
	Namespaces    []specs.LinuxNamespace `json:"namespaces"`
	MaskedPaths   []string               `json:"maskedPaths"`
	ReadonlyPaths []string               `json:"readonlyPaths"`
}

type resources struct {
	Memory         *specs.LinuxMemory         `json:"memory"`
	CPU            *specs.LinuxCPU            `json:"cpu"`
	Pids           *specs.LinuxPids           `json:"pids"`
	BlockIO        json.RawMessage            `json:"blockIO"` // rare, and of many types
	HugepageLimits []specs.LinuxHugepageLimit `json:"hugepageLimits"`
	Unified        map[string]string          `json:"unified"`
}

// parse reads a specification. What hachi makes no use of is left out, whatever it may be.
func parse(data []byte) (*specs.Spec, error) {
	if len(data) > maxSpec {
		return nil, fmt.Errorf("more than %d bytes: %w", maxSpec, errdefs.ErrInvalidArgument)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	spec := &specs.Spec{
		Version: d.Version, Root: d.Root, Hostname: d.Hostname, Annotations: d.Annotations,
		Process: new(specs.Process), Linux: new(specs.Linux),
	}
	for _, m := range d.Mounts {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: m.Destination, Type: m.Type, Source: m.Source, Options: m.Options})
	}
	if p := d.Process; p != nil {
		*spec.Process = specs.Process{
			Terminal: p.Terminal, User: p.User, Args: p.Args, Env: p.Env, Cwd: p.Cwd, Rlimits: p.Rlimits, OOMScoreAdj: p.OOMScoreAdj,
		}
	}
	if l := d.Linux; l != nil {
		*spec.Linux = specs.Linux{
			Sysctl: l.Sysctl, CgroupsPath: l.CgroupsPath, Namespaces: l.Namespaces, MaskedPaths: l.MaskedPaths, ReadonlyPaths: l.ReadonlyPaths,
		}
		if r := l.Resources; r != nil {
			spec.Linux.Resources = &specs.LinuxResources{
				Memory: r.Memory, CPU: r.CPU, Pids: r.Pids, HugepageLimits: r.HugepageLimits, Unified: r.Unified,
			}
			if len(r.BlockIO) > 0 {
				if err := json.Unmarshal(r.BlockIO, &spec.Linux.Resources.BlockIO); err != nil {
					return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
				}
			}
		}
	}
	return spec, nil
}
