package layout

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime"

	"golang.org/x/sys/cpu"
)

// CPU returns the features that wazero's compiler chooses instructions by, in wazero's own encoding.
// Machine code made with one set may not run with another.
func CPU() uint64 {
	var f uint64
	switch runtime.GOARCH {
	case "amd64":
		if cpu.X86.HasSSE41 {
			f |= 1
		}
		if cpu.X86.HasBMI1 {
			f |= 2
		}
		if cpu.X86.HasBMI1 && cpu.X86.HasBMI2 && cpu.X86.HasPOPCNT {
			f |= 4
		}
	case "arm64":
		if cpu.ARM64.HasATOMICS {
			f |= 1
		}
	}
	return f
}

// Key names the artefact of the module with the given digest on this machine and for this build.
func Key(digest string) [32]byte {
	h := sha256.New()
	for _, s := range []string{digest, Wazero, runtime.GOARCH} {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	h.Write(binary.LittleEndian.AppendUint64(nil, CPU()))
	h.Write(binary.LittleEndian.AppendUint64(nil, Version))
	return [32]byte(h.Sum(nil))
}
