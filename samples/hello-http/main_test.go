package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRoutes(t *testing.T) {
	h := routes()
	for _, c := range []struct {
		path, body string
		code       int
	}{
		{"/", "Hello, world,", 200},
		{"/?name=bee", "Hello, bee,", 200},
		{"/healthz", `"status":"ok"`, 200},
		{"/nowhere", "", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", c.path, nil))
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: %d %q; want %d and %q", c.path, w.Code, w.Body.String(), c.code, c.body)
		}
	}
}
