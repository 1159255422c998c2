package launch

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
)

// legacyForm tells containerd 2.0-2.2 from 1.x, which call the launcher in exactly the same way but do
// not read each other's answers: 1.x refuses version 3, 2.x takes the plain address for a shim that must
// be executed for every container. It asks the executable that called, by the list of Go modules that the
// linker left in it. Whatever is not clearly 2.x gets the plain address, which all versions read.
func legacyForm(executable string) form {
	info, err := readBuildInfo(executable)
	if err != nil {
		return formBare
	}
	const module = "github.com/containerd/containerd/v2"
	for line := range strings.SplitSeq(info, "\n") {
		kind, rest, _ := strings.Cut(line, "\t")
		path, _, _ := strings.Cut(rest, "\t")
		if (kind == "mod" || kind == "dep") && path == module {
			return formJSON
		}
	}
	return formBare
}

// callerExecutable is the running image of the calling process, which may differ from the file on disk
// during an upgrade.
func callerExecutable() string { return "/proc/" + strconv.Itoa(os.Getppid()) + "/exe" }

var errNoBuildInfo = errors.New("no Go build information")

// readBuildInfo returns the module list ("mod\tpath\tversion\tsum" lines and build settings) of a Go
// program for 64-bit little-endian ELF, built by Go 1.18 or later. debug/buildinfo does the same for
// every format there is, at 400 kB.
func readBuildInfo(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return parseBuildInfo(f)
}

func parseBuildInfo(f io.ReaderAt) (string, error) {
	section, err := elfSection(f, ".go.buildinfo")
	if err != nil {
		return "", err
	}
	const head, inline = 32, 2
	if len(section) < head || string(section[:14]) != "\xff Go buildinf:" || section[15]&inline == 0 {
		return "", errNoBuildInfo
	}
	rest := section[head:]
	var text []byte
	for range 2 { // the Go version, then the modules
		size, n := varint(rest)
		if n == 0 || size > uint64(len(rest)-n) {
			return "", errNoBuildInfo
		}
		text, rest = rest[n:n+int(size)], rest[n+int(size):]
	}
	// 16 bytes of sentinel stand on either side.
	if len(text) < 33 || text[len(text)-17] != '\n' {
		return "", errNoBuildInfo
	}
	return string(text[16 : len(text)-16]), nil
}

// little is the little-endian number in the first n bytes of b.
func little(b []byte, n int) (v uint64) {
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

// elfSection returns the content of the named section.
func elfSection(f io.ReaderAt, name string) ([]byte, error) {
	const maxSection, entry = 4 << 20, 64
	read := func(off, size uint64) ([]byte, error) {
		if size > maxSection || off > 1<<62 {
			return nil, errNoBuildInfo
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, int64(off)); err != nil {
			return nil, err
		}
		return b, nil
	}
	h, err := read(0, 64)
	if err != nil {
		return nil, err
	}
	count, names := little(h[0x3c:], 2), little(h[0x3e:], 2)
	if string(h[:6]) != "\x7fELF\x02\x01" || little(h[0x3a:], 2) != entry || names >= count {
		return nil, errNoBuildInfo
	}
	table, err := read(little(h[0x28:], 8), count*entry)
	if err != nil {
		return nil, err
	}
	content := func(i uint64) ([]byte, error) {
		return read(little(table[i*entry+0x18:], 8), little(table[i*entry+0x20:], 8))
	}
	text, err := content(names)
	if err != nil {
		return nil, err
	}
	for i := range count {
		at := little(table[i*entry:], 4)
		if at < uint64(len(text)) && strings.HasPrefix(string(text[at:]), name+"\x00") {
			return content(i)
		}
	}
	return nil, errNoBuildInfo
}
