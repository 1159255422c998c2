package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hachi-run/hachi/shim/node"
)

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{
		ErrorLog: promLog{a.log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /flows", a.serveFlows)
	return mux
}

// health is 200 as long as the ledger can be read; a node without flows is healthy, and says so.
func (a *Agent) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := a.o.Node.Check(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	if !a.following.Load() {
		fmt.Fprintln(w, "ok, but no flows arrive: no pod has run yet, another agent follows them, or this kernel has none (see the log)")
		return
	}
	fmt.Fprintln(w, "ok")
}

// encode is a flow's line.
func encode(f *node.Flow) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(f) // a struct of plain values
	return b.Bytes()
}

// filter reads the question of /flows: follow, pod and namespace.
func filter(q url.Values) (match func(*node.Flow) bool, follow bool, err error) {
	for name, values := range q {
		if !slices.Contains([]string{"follow", "pod", "namespace"}, name) || len(values) != 1 {
			return nil, false, fmt.Errorf("parameter %q: not one of follow, pod and namespace, once each", name)
		}
	}
	if v := q.Get("follow"); v != "" {
		if follow, err = strconv.ParseBool(v); err != nil {
			return nil, false, fmt.Errorf("follow=%q: neither 0 nor 1", v)
		}
	}
	return node.Filter{Pod: q.Get("pod"), Namespace: q.Get("namespace")}.Match, follow, nil
}

// serveFlows answers with the recent flows, or with follow=1 with all that come from now on until somebody ends it.
func (a *Agent) serveFlows(w http.ResponseWriter, r *http.Request) {
	match, follow, err := filter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if follow {
		a.serveStream(w, r, match)
		return
	}
	flows, err := a.o.Node.Recent()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for k := range flows {
		if match(&flows[k]) {
			if _, err := w.Write(encode(&flows[k])); err != nil {
				return
			}
		}
	}
}

// serveStream writes lines as they come. A reader that missed some is told by a line {"missed":N}.
func (a *Agent) serveStream(w http.ResponseWriter, r *http.Request, match func(*node.Flow) bool) {
	reader := a.stream.join(match)
	if reader == nil {
		http.Error(w, errFull.Error(), http.StatusServiceUnavailable)
		return
	}
	defer a.stream.leave(reader)
	out := newAnswer(w, writeTime)
	out.Header().Set("Content-Type", "application/x-ndjson")
	out.WriteHeader(http.StatusOK)
	if out.FlushError() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case f, more := <-reader.flows:
			if !more {
				return
			}
			line := encode(f)
			if n := reader.missed.Swap(0); n > 0 {
				line = append(fmt.Appendf(nil, "{\"missed\":%d}\n", n), line...)
			}
			if _, err := out.Write(line); err != nil {
				return
			}
			if len(reader.flows) == 0 && out.FlushError() != nil {
				return
			}
		}
	}
}
