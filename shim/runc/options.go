package runc

import (
	"fmt"
	"os"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

// Options translates a runtime class's options into runc's. CRI gives runtimes that it does not know a
// runtimeoptions.v1.Options with TOML in it, whose keys are runc's own (containerd's docs/cri/config.md).
func Options(in *anypb.Any) (*anypb.Any, error) {
	if in.GetTypeUrl() == "" {
		return nil, nil
	}
	v, err := typeurl.UnmarshalAny(in)
	if err != nil {
		return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	generic, ok := v.(*runtimeoptions.Options)
	if !ok {
		if _, ok := v.(*runcoptions.Options); ok {
			return in, nil
		}
		return nil, fmt.Errorf("runtime options: type %s is not known: %w", in.TypeUrl, errdefs.ErrInvalidArgument)
	}
	body := generic.ConfigBody
	if len(body) == 0 && generic.ConfigPath != "" {
		if body, err = os.ReadFile(generic.ConfigPath); err != nil {
			return nil, fmt.Errorf("runtime options: %w", err)
		}
	}
	out := new(runcoptions.Options)
	if err := toml.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return typeurl.MarshalAnyToProto(out)
}
