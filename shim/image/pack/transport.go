package pack

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// guard keeps credentials off plain HTTP: the client library would fall back to it for private
// addresses.
type guard struct{ plain bool }

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && !g.plain && !loopback(r.URL.Host) {
		return nil, errPlain
	}
	return remote.DefaultTransport.RoundTrip(r)
}

var errPlain = errors.New("the registry has no TLS (use --plain-http to allow that)")

// explain adds a next step where the cause is certain.
func explain(err error) error {
	var status *transport.Error
	if errors.As(err, &status) {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%w (log in with docker login or podman login)", err)
		}
	}
	var address *url.Error
	if errors.As(err, &address) && errors.Is(address.Err, errPlain) {
		return errPlain
	}
	return err
}
