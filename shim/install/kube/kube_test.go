package kube

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hachi-run/hachi/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// server answers as an API server does; answers are by "METHOD path".
type server struct {
	mu      sync.Mutex
	answers map[string][]string // guarded by mu; the last one is given for ever
	got     []string            // guarded by mu; what was sent, "METHOD path body"
	types   map[string]bool     // guarded by mu
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"message":"who are you"}`)
		return
	}
	key := r.Method + " " + r.URL.Path
	var body any
	if r.Method == http.MethodPatch {
		s.types[r.Header.Get("Content-Type")] = true
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		raw, _ := json.Marshal(body)
		s.got = append(s.got, key+" "+string(raw))
	}
	left := s.answers[key]
	if len(left) == 0 {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"nothing here"}`)
		return
	}
	if len(left) > 1 {
		s.answers[key] = left[1:]
	}
	if code, message, ok := strings.Cut(left[0], "!"); ok && len(code) == 3 {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"message":%q}`, message)
		return
	}
	fmt.Fprint(w, left[0])
}

func start(t *testing.T, answers map[string][]string) (*Client, *server) {
	t.Helper()
	s := &server{answers: answers, types: map[string]bool{}}
	web := httptest.NewTLSServer(s)
	t.Cleanup(web.Close)
	host, port, err := net.SplitHostPort(web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	for name, text := range map[string]string{"token": "secret\n", "ca.crt": string(ca)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := InPod(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, s
}

func TestLabels(t *testing.T) {
	c, s := start(t, map[string][]string{"PATCH /api/v1/nodes/bee": {"{}"}})
	if err := c.LabelNode(t.Context(), "bee", "v0.1.0-3-gabc+dirty."); err != nil {
		t.Fatal(err)
	}
	if err := c.UnlabelNode(t.Context(), "bee"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`PATCH /api/v1/nodes/bee {"metadata":{"labels":{"hachi.run/ready":"true","hachi.run/version":"v0.1.0-3-gabc-dirty"}}}`,
		`PATCH /api/v1/nodes/bee {"metadata":{"labels":{"hachi.run/ready":null,"hachi.run/version":null}}}`,
	}
	if diff := cmp.Diff(want, s.got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"application/merge-patch+json": true}, s.types); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestErrorsAreTheServersWords(t *testing.T) {
	c, _ := start(t, map[string][]string{"PATCH /api/v1/nodes/bee": {"403!nodes is forbidden"}})
	err := c.LabelNode(t.Context(), "bee", "v1")
	var answer *Error
	if !errors.As(err, &answer) || answer.Code != 403 || err.Error() != "label node bee: nodes is forbidden (403)" {
		t.Errorf("got %v", err)
	}
	// The token is read again for every call.
	if err := os.WriteFile(filepath.Join(c.dir, "token"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.LabelNode(t.Context(), "bee", "v1"); err == nil || !strings.Contains(err.Error(), "who are you (401)") {
		t.Errorf("got %v", err)
	}
}

func TestOutsideAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := InPod(t.TempDir()); !errors.Is(err, ErrOutside) {
		t.Errorf("got %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	if _, err := InPod(t.TempDir()); !errors.Is(err, ErrOutside) {
		t.Errorf("got %v", err)
	}
}

const (
	set    = "/apis/apps/v1/namespaces/hive/daemonsets/installer"
	before = `{"metadata":{"generation":1},"spec":{"template":{"spec":{"containers":[{"name":"installer","image":"x","args":["node","install","--stay=:1"]}]}}},"status":{"observedGeneration":1,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberReady":2}}`
)

func progress(observed, updated, ready int) string {
	return fmt.Sprintf(`{"metadata":{"generation":2},"status":{"observedGeneration":%d,"desiredNumberScheduled":2,"updatedNumberScheduled":%d,"numberReady":%d}}`, observed, updated, ready)
}

func TestWithdraw(t *testing.T) {
	c, s := start(t, map[string][]string{
		"GET /api/v1/pods": {`{"items":[{"metadata":{"namespace":"a","name":"done"},"spec":{"runtimeClassName":"hachi"},"status":{"phase":"Succeeded"}},{"metadata":{"name":"other"},"spec":{},"status":{"phase":"Running"}}]}`},
		"GET " + set:       {before, progress(1, 2, 2), progress(2, 1, 1), progress(2, 2, 2)},
		"PATCH " + set:     {progress(1, 2, 2)},
	})
	var said []string
	if err := c.Withdraw(t.Context(), Withdrawal{Namespace: "hive", DaemonSet: "installer", RuntimeClass: "hachi", Flags: []string{"--purge"}, Say: func(l string) { said = append(said, l) }}); err != nil {
		t.Fatal(err)
	}
	want := []string{`PATCH ` + set + ` {"spec":{"template":{"spec":{"containers":[{"args":["node","uninstall","--stay=:1","--purge"],"image":"x","name":"installer"}]}},"updateStrategy":{"rollingUpdate":{"maxUnavailable":"100%"},"type":"RollingUpdate"}}}`}
	if diff := cmp.Diff(want, s.got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"2 of 2 nodes are done", "1 of 2 nodes are done", "2 of 2 nodes are done"}, said); diff != "" {
		t.Logf("said (-want +got):\n%s", diff)
	}
}

func TestWithdrawRefusesWhilePodsRun(t *testing.T) {
	c, s := start(t, map[string][]string{
		"GET /api/v1/pods": {
			`{"metadata":{"continue":"next"},"items":[{"metadata":{"namespace":"a","name":"z"},"spec":{"runtimeClassName":"hachi"},"status":{"phase":"Running"}}]}`,
			`{"items":[{"metadata":{"namespace":"a","name":"b"},"spec":{"runtimeClassName":"hachi"},"status":{"phase":"Pending"}}]}`,
		},
	})
	err := c.Withdraw(t.Context(), Withdrawal{Namespace: "hive", DaemonSet: "installer", RuntimeClass: "hachi"})
	if err == nil || !strings.Contains(err.Error(), "pods use the RuntimeClass hachi: a/b, a/z (delete them first") || len(s.got) > 0 {
		t.Errorf("got %v, sent %v", err, s.got)
	}
}

func TestWithdrawNamesNodesThatFail(t *testing.T) {
	c, _ := start(t, map[string][]string{
		"GET " + set:   {before, progress(2, 2, 1)},
		"PATCH " + set: {progress(1, 2, 2)},
		"GET /api/v1/namespaces/hive/pods": {`{"items":[
			{"metadata":{"name":"installer-x"},"spec":{"nodeName":"bee"},"status":{"containerStatuses":[{"ready":false,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"message":"hachi: no way\n"}}}]}},
			{"metadata":{"name":"installer-y"},"spec":{"nodeName":"ant"},"status":{"containerStatuses":[{"ready":true,"state":{}}]}}]}`},
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("too slow"))
	defer cancel()
	err := c.Withdraw(ctx, Withdrawal{Namespace: "hive", DaemonSet: "installer"})
	if err == nil || err.Error() != "withdraw: too slow\nnode bee: CrashLoopBackOff: hachi: no way" {
		t.Errorf("got %v", err)
	}
}

func TestWithdrawOfNothing(t *testing.T) {
	c, _ := start(t, nil)
	if err := c.Withdraw(t.Context(), Withdrawal{Namespace: "hive", DaemonSet: "installer"}); err != nil {
		t.Error(err)
	}
	c, _ = start(t, map[string][]string{"GET " + set: {`{"spec":{"template":{"spec":{"containers":[{"args":["serve"]}]}}}}`}})
	if err := c.Withdraw(t.Context(), Withdrawal{Namespace: "hive", DaemonSet: "installer"}); err == nil || !strings.Contains(err.Error(), "is it the installer's?") {
		t.Errorf("got %v", err)
	}
}
