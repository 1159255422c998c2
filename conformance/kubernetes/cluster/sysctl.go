package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hostSysctls are those of the whole machine that a kubelet sets; down puts them back.
var hostSysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

func saveSysctls(l Layout) error {
	var text strings.Builder
	for _, key := range hostSysctls {
		value, err := os.ReadFile("/proc/sys/" + key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s %s\n", key, strings.TrimSpace(string(value)))
	}
	return os.WriteFile(l.State("sysctls"), []byte(text.String()), 0o644)
}

func restoreSysctls(l Layout) error {
	raw, err := os.ReadFile(l.State("sysctls"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if err := setSysctl(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func setSysctl(key, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
}
