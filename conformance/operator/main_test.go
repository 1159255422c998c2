package operator

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hachi-run/hachi/internal/testenv"
	"github.com/hachi-run/hachi/internal/testenv/daemon"
	"github.com/hachi-run/hachi/internal/testenv/guest"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const image = "example.test/hello-http:v1"

// site is a containerd with the sample web service as an image.
type site struct {
	*daemon.Daemon
	bin       string
	namespace string
}

func newSite(t *testing.T, version string, o daemon.Options) *site {
	t.Helper()
	if o.Path == nil {
		o.Path = []string{testenv.Bin(t)}
	}
	d := daemon.Test(t, version, o)
	s := &site{d, testenv.Bin(t), d.Mark()}
	archive := filepath.Join(t.TempDir(), "hello-http.tar")
	s.hachi(t, "build", guest.Built(t, guest.WASI, "samples/hello-http"), "-t", image, "-o", archive)
	s.ctr(t, "image", "import", "--all-platforms", archive)
	return s
}

func (s *site) ctr(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := s.Ctr(ctx, append([]string{"-n", s.namespace}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hachi runs a command, which must succeed, and returns its stdout.
func (s *site) hachi(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out, say bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "hachi"), args...)
	cmd.Stdout, cmd.Stderr = &out, &say
	if err := cmd.Run(); err != nil {
		t.Fatalf("hachi %s: %v\n%s%s", strings.Join(args, " "), err, &out, &say)
	}
	return out.String()
}

// web is a container that serves at address.
type web struct {
	*site
	id, address string
}

// serve starts the sample on a free port of the machine's loopback.
func (s *site) serve(t *testing.T, id string) *web {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &web{s, id, l.Addr().String()}
	l.Close()
	s.ctr(t, "run", "-d", "--net-host", "--annotation", "hachi.run/listen="+w.address, "--runtime", "io.containerd.hachi.v1", image, id)
	t.Cleanup(func() { w.remove(t) })
	return w
}

// remove ends the container; a second call does nothing.
func (w *web) remove(t *testing.T) {
	t.Helper()
	if w.id == "" {
		return
	}
	w.ctr(t, "task", "rm", "--force", w.id)
	w.ctr(t, "container", "rm", w.id)
	w.id = ""
}

// get makes one connection and returns the answer.
func (w *web) get(t *testing.T) string {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Get("http://" + w.address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", reply.Status, err)
	}
	return string(body)
}

// eventually repeats check for some seconds, until it returns "".
func eventually(t *testing.T, check func() string) {
	t.Helper()
	var problem string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if problem = check(); problem == "" {
			return
		}
	}
	t.Error(problem)
}

func perVersion(t *testing.T, f func(t *testing.T, version string)) {
	testenv.NeedRoot(t)
	for _, version := range daemon.Versions {
		t.Run(version, func(t *testing.T) { f(t, version) })
	}
}

func lines(text string) []string {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
