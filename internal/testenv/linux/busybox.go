package linux

import (
	"debug/elf"
	"fmt"
	"os/exec"
	"strings"
)

// Busybox is a static busybox of this machine with a link for each of its words, in bin/.
func Busybox() ([]File, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("find busybox: %w (run make deps)", err)
	}
	program, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err == nil && len(libraries) > 0 {
		return nil, fmt.Errorf("%s is not static (install busybox-static)", path)
	}
	words, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the words of busybox: %w", err)
	}
	files := []File{{Path: "bin/busybox", From: path}}
	for _, word := range strings.Fields(string(words)) {
		if word != "busybox" {
			files = append(files, File{Path: "bin/" + word, Link: "busybox"})
		}
	}
	return files, nil
}
