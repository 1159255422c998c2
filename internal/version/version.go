// Package version tells which build of hachi this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -ldflags "-X github.com/hachi-run/hachi/internal/version.version=v0.1.0".
var version string

// Info is what is known of the build.
type Info struct {
	// Version is the release, or "devel" when the build was not told.
	Version string `json:"version"`
	// Commit is the full hash of the source; empty when the build had no repository.
	Commit string `json:"commit,omitempty"`
	// Modified says that the source differed from Commit.
	Modified bool `json:"modified,omitempty"`
	// Go and Platform are the compiler's, for example "go1.26.6" and "linux/amd64".
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Get returns the build's information.
func Get() Info {
	i := Info{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if i.Version == "" {
		i.Version = "devel"
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return i
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		}
	}
	return i
}

// String is one line for people, for example "v0.1.0 (1a2b3c4d5e6f, go1.26.6, linux/amd64)".
func (i Info) String() string {
	commit := i.Commit
	if len(commit) > 12 {
		commit = commit[:12]
	}
	if commit == "" {
		commit = "commit unknown"
	}
	if i.Modified {
		commit += " modified"
	}
	return fmt.Sprintf("%s (%s, %s, %s)", i.Version, commit, i.Go, i.Platform)
}
