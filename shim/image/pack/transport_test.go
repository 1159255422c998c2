package pack

import (
	"errors"
	"net/http"
	"testing"
)

func TestPlainHTTPOnlyOnThisMachine(t *testing.T) {
	for domain, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "a.localhost:1": true, "127.0.0.1:5000": true, "127.9.9.9": true, "[::1]:5000": true, "[::1]": true,
		"registry.example": false, "10.0.0.1:5000": false, "192.168.1.1": false, "localhost.evil.example": false, "127.0.0.1.example:80": false, "[fd00::1]:5000": false,
	} {
		if got := loopback(domain); got != want {
			t.Errorf("loopback(%q) = %v", domain, got)
		}
		if want {
			continue
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+domain+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := (guard{}).RoundTrip(r)
		if err == nil {
			reply.Body.Close()
		}
		if !errors.Is(err, errPlain) {
			t.Errorf("%s: got %v", domain, err)
		}
	}
}
