package grpc

import (
	"os"
	"testing"

	"github.com/hachi-run/hachi/internal/testenv"
)

// TestMain fails the package when a test left a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
