package stdio

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// sink opens the place that output goes to; nil for an empty name.
func (s *Streams) sink(ctx context.Context, c Config, name string) (*os.File, error) {
	switch {
	case name == "":
		return nil, nil
	case strings.HasPrefix(name, "/"): // not a URI, so % and ? mean themselves
		return s.pipe(ctx, name)
	}
	u, err := url.Parse(name)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "fifo":
		return s.pipe(ctx, u.Path)
	case "file":
		if err := os.MkdirAll(filepath.Dir(u.Path), 0o755); err != nil {
			return nil, err
		}
		return os.OpenFile(u.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	case "binary", "binary-v2":
		l, err := startLogger(ctx, u, c.ID, c.Namespace)
		if err != nil {
			return nil, err
		}
		s.loggers = append(s.loggers, l)
		return l.stdout, nil
	default:
		return nil, fmt.Errorf("%s: unknown scheme %q (use a fifo's absolute path, file:// or binary://)", name, u.Scheme)
	}
}
