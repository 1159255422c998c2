package pack_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv/images"
	"github.com/hachi-run/hachi/shim/image/pack"
)

// Every layout goes to a real registry and comes back with the same bytes.
func TestPushAndReadEveryLayout(t *testing.T) {
	hangUp(t)
	registry := images.Registry(t)
	for _, l := range images.Layouts(module) {
		t.Run(l.Name, func(t *testing.T) {
			i, err := pack.OpenArchive(write(t, filepath.Join(t.TempDir(), "l.tar"), l.Archive, 0o644), "")
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			name := registry + "/layouts/" + strings.ToLower(l.Name) + ":v1"
			pinned, err := pack.Registry{}.Push(t.Context(), i, name)
			if err != nil {
				t.Fatal(err)
			}
			if want := registry + "/layouts/" + strings.ToLower(l.Name) + "@" + l.Target.Digest; pinned != want {
				t.Errorf("got %s, want %s", pinned, want)
			}
			for _, ref := range []string{name, pinned} {
				back, err := pack.Registry{}.Open(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				defer back.Close()
				var out bytes.Buffer
				if err := back.WriteArchive(t.Context(), &out); err != nil {
					t.Errorf("%s: %v", ref, err)
				}
				if back.Target.Digest.String() != l.Target.Digest || back.Target.MediaType != l.Target.MediaType {
					t.Errorf("%s: got %+v, want %+v", ref, back.Target, l.Target)
				}
			}
		})
	}
}

func TestPushBuiltImage(t *testing.T) {
	hangUp(t)
	registry := images.Registry(t)
	i := build(t, pack.Options{Name: registry + "/app"})
	for range 2 { // again is no error
		if _, err := (pack.Registry{}).Push(t.Context(), i, i.Name); err != nil {
			t.Fatal(err)
		}
	}
	back, err := pack.Registry{}.Open(t.Context(), registry+"/app:latest")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	m := only(t, back)
	r, err := back.Blob(t.Context(), m.Manifest.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, module) {
		t.Errorf("got %x, %v", got, err)
	}
	if _, err := (pack.Registry{}).Open(t.Context(), registry+"/none"); err == nil || !strings.Contains(err.Error(), registry+"/none:latest") {
		t.Errorf("missing image: got %v", err)
	}
}

func TestCredentialsOfDockerLogin(t *testing.T) {
	hangUp(t)
	registry := images.Registry(t, "-user", "bee:honey")
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", filepath.Join(home, ".docker"))
	t.Setenv("XDG_RUNTIME_DIR", home)
	i := build(t, pack.Options{Name: registry + "/app:v1"})
	if _, err := (pack.Registry{}).Push(t.Context(), i, i.Name); err == nil || !strings.Contains(err.Error(), "docker login") {
		t.Errorf("without credentials: got %v", err)
	}
	auth := base64.StdEncoding.EncodeToString([]byte("bee:honey"))
	write(t, filepath.Join(home, ".docker/config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, registry, auth), 0o600)
	if _, err := (pack.Registry{}).Push(t.Context(), i, i.Name); err != nil {
		t.Errorf("with credentials: %v", err)
	}
}

func TestNoRegistry(t *testing.T) {
	i := build(t, pack.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nobody answers there now
	if _, err = (pack.Registry{}).Push(t.Context(), i, address+"/app"); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}
