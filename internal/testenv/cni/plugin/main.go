// Command plugin is the CNI plugin of the tests: it brings the pod's loopback up and says that this is the
// pod's network. Nothing of the machine's network changes, and a pod reaches itself only.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/internal/testenv/loopback"
)

func main() { os.Exit(run()) }

func run() int {
	switch cmd := os.Getenv("CNI_COMMAND"); cmd {
	case "VERSION":
		return answer(map[string]any{"cniVersion": "1.0.0", "supportedVersions": []string{"0.3.1", "0.4.0", "1.0.0"}})
	case "ADD":
		if err := loopbackUp(os.Getenv("CNI_NETNS")); err != nil {
			return answer(map[string]any{"cniVersion": "1.0.0", "code": 100, "msg": err.Error()}) + 1
		}
		ifname, address := os.Getenv("CNI_IFNAME"), "127.0.0.1/8"
		if ifname != "lo" {
			address = "192.0.2.2/32" // TEST-NET-1: the pod's address by name only
		}
		return answer(map[string]any{
			"cniVersion": "1.0.0",
			"interfaces": []any{map[string]any{"name": ifname, "mac": "02:00:00:00:00:01", "sandbox": os.Getenv("CNI_NETNS")}},
			"ips":        []any{map[string]any{"address": address, "interface": 0}},
		})
	default: // DEL, CHECK, STATUS, GC
		return 0
	}
}

func answer(v any) int {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return 1
	}
	return 0
}

func loopbackUp(netns string) error {
	runtime.LockOSThread()
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace: %s: %w", netns, err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace: %s: %w", netns, err)
	}
	return loopback.Up()
}
