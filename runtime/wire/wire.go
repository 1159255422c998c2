// Package wire is what a shim and its engine process say to each other.
//
// They talk over one stream socket, the engine's descriptor 3. A frame is a 32-bit little-endian
// length and that many bytes, one Message. The shim speaks first with Config, which alone has
// descriptors beside it (see Files); the engine answers Ready or Failed; then Start lets the guest run, and Exit is
// the engine's last word. Either side takes the other's silence for its death. The shim treats all it reads as
// hostile: an engine may have been taken over by its guest. What descriptors an engine sends, the kernel closes.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hachi-run/hachi/runtime/jail"
)

// ControlFD is the engine's end of the control socket.
const ControlFD = 3

// MaxFrame is the largest frame in bytes; Linux's own limit for arguments and environment
// (MAX_ARG_STRLEN times a few) fits.
const MaxFrame = 8 << 20

// headSize is the size of a frame's length.
const headSize = 4

// Message is one frame. Exactly one field is set.
type Message struct {
	// From the shim.
	Config *Config
	Start  *Start
	Stop   *Stop
	Limit  *Limit

	// From the engine.
	Ready   *Ready
	Failed  *Failed
	Limited *Limited
	Exit    *Exit
}

// Config says what to run and in which jail.
type Config struct {
	Args []string
	Env  []string
	// Cwd is the working directory, which a guest finds in PWD; empty means "/".
	Cwd string
	// Module is the guest; nil means that Args is a toolbox command such as `ls /`.
	Module *Module
	// Preopens are the directories and files the guest finds open, after its listeners.
	Preopens []Preopen
	// Listeners are the sockets that the engine listens on for the guest, which finds them from 3 on, as LISTEN_FDS
	// says.
	Listeners []Listener
	// Memory is the ceiling of the guest's linear memory in bytes; 0 means what the module asks for.
	Memory uint64
	// Jail is entered before the module is read.
	Jail jail.Config
	// Join says that Files.Root is the root to enter, instead of Jail.Root's mounts.
	Join bool
}

// Module is a Wasm module, whose bytes are Files.Module.
type Module struct {
	// Name is what messages and traces call it.
	Name string
	// Compiled says that Files.Artifact is its compiled form; otherwise it is compiled in place.
	Compiled bool
}

// Preopen is a directory given to the guest, or a single file.
type Preopen struct {
	// Guest is the name that the guest sees, for example "/".
	Guest string
	// Path is where the engine opens it, after it entered its jail.
	Path     string
	ReadOnly bool
}

// Listener is a TCP socket that listens for the guest. The engine makes it while it still has its privileges, so
// that it is the container's own: of its cgroup, which pays for it, and of its network namespace.
type Listener struct {
	// Address is "host:port"; an empty host is every address of both families.
	Address string
	// Name is its entry in LISTEN_FDNAMES, for example "tcp-8080".
	Name string
}

// Start lets the guest run.
type Start struct{}

// Stop asks the guest to end. The engine takes no new connections, lets the ones that are open finish,
// and ends the guest with 128+Signal when they are closed or after Grace milliseconds.
type Stop struct {
	Signal int
	Grace  int64
}

// Limit moves the ceiling of the guest's linear memory, in bytes.
type Limit struct {
	Memory uint64
}

// Ready says that the guest is loaded and waits for Start.
type Ready struct{}

// Failed says that the guest cannot run; the engine exits after it.
type Failed struct {
	Error string
	// Listen says that it is a Listener that failed, and nothing that the guest itself has done.
	Listen bool
}

// Limited says that the ceiling of the next Limit that had no such answer yet holds now.
type Limited struct{}

// Exit says how the guest ended; the engine exits after it.
type Exit struct {
	// Code is proc_exit's code, 134 for a trap, or 128+signal after Stop.
	Code uint32
	// OOM says that the guest was refused memory at its ceiling and did not survive that.
	OOM bool
}

// Write sends one frame.
func Write(w io.Writer, m *Message) error {
	frame, err := encode(m)
	if err != nil {
		return err
	}
	if _, err := w.Write(frame); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Read receives one frame of at most limit bytes. It returns io.EOF when the other side closed between
// frames.
func Read(r io.Reader, limit int) (*Message, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return decode(head, r, limit)
}

// decode reads the rest of a frame.
func decode(head [headSize]byte, r io.Reader, limit int) (*Message, error) {
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > int64(limit) {
		return nil, fmt.Errorf("read frame: %d bytes exceed %d", n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return unmarshal(body)
}
