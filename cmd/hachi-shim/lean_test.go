package main

import (
	"os/exec"
	"strings"
	"testing"
)

// Every pod has a server, and pays for each package that is linked into it (docs/rationale/server.md).
func TestServerLinksLittle(t *testing.T) {
	list := exec.Command("go", "list", "-deps", ".")
	list.Env = append(list.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("go list knows only %d packages", len(packages))
	}
	for _, p := range packages {
		for _, heavy := range []string{
			"crypto/tls", "net/http", "regexp", "text/template", // of the standard library
			"google.golang.org/protobuf", "google.golang.org/grpc", "github.com/containerd/ttrpc", "github.com/containerd/typeurl",
			"github.com/containerd/containerd", "github.com/containerd/cgroups", "github.com/opencontainers/go-digest",
			"github.com/sirupsen/logrus", "github.com/tetratelabs/wazero",
		} {
			if p == heavy || strings.HasPrefix(p, heavy+"/") {
				t.Errorf("links %s: go list -f '{{.ImportPath}} {{.Imports}}' -deps ./cmd/hachi-shim says by whom", p)
			}
		}
	}
}
