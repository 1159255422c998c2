package registry_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/registry"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestPushThenPull(t *testing.T) {
	r, err := registry.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	transport := r.Transport()
	defer transport.CloseIdleConnections()
	ref, err := name.ParseReference(r.Addr + "/a/b:c")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, empty.Image, remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Head(ref, remote.WithTransport(transport))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := empty.Image.Digest(); got.Digest != want {
		t.Errorf("pushed %v, the registry has %v", want, got.Digest)
	}
	if resp, err := http.Get("https://" + r.Addr + "/v2/"); err == nil {
		resp.Body.Close()
		t.Error("a client that does not trust the registry was served")
	}
}
