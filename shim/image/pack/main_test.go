package pack_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestMain fails the package when a test left a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// hangUp closes the connections that the registry client keeps for later.
func hangUp(t *testing.T) {
	t.Helper()
	t.Cleanup(remote.DefaultTransport.(*http.Transport).CloseIdleConnections)
}
