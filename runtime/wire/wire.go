// Package wire is what a shim and its engine process say to each other.
//
// They talk over one stream socket, the engine's descriptor 3. A frame is a 32-bit little-endian
// length and that many bytes of JSON, one Message. The shim speaks first with Config; the engine
// answers Ready or Failed; then Start lets the guest run, and Exit is the engine's last word. Either
// side takes the other's silence for its death. The shim treats all it reads as hostile: an engine
// may have been taken over by its guest.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/hachi-run/hachi/runtime/jail"
)

// ControlFD is the engine's end of the control socket.
const ControlFD = 3

// MaxFrame is the largest frame in bytes; Linux's own limit for arguments and environment
// (MAX_ARG_STRLEN times a few) fits with room for JSON's quoting.
const MaxFrame = 8 << 20

// Message is one frame. Exactly one field is set.
type Message struct {
	// From the shim.
	Config *Config `json:"config,omitempty"`
	Start  *Start  `json:"start,omitempty"`
	Stop   *Stop   `json:"stop,omitempty"`
	Limit  *Limit  `json:"limit,omitempty"`

	// From the engine.
	Ready  *Ready  `json:"ready,omitempty"`
	Failed *Failed `json:"failed,omitempty"`
	Exit   *Exit   `json:"exit,omitempty"`
}

// Config says what to run and in which jail.
type Config struct {
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	// Cwd is the working directory, which a guest finds in PWD; empty means "/".
	Cwd string `json:"cwd,omitempty"`
	// Module is the guest; nil means that Args is a toolbox command such as `ls /`.
	Module *Module `json:"module,omitempty"`
	// Preopens are the directories the guest finds open, after its listeners.
	Preopens []Preopen `json:"preopens,omitempty"`
	// Listeners are descriptors of bound and listening sockets; the guest finds them from 3 on,
	// as LISTEN_FDS says.
	Listeners []Listener `json:"listeners,omitempty"`
	// Memory is the ceiling of the guest's linear memory in bytes; 0 means what the module asks for.
	Memory uint64 `json:"memory,omitempty"`
	// Jail is entered before the module is read.
	Jail jail.Config `json:"jail"`
}

// Module is a Wasm module as descriptors of the engine.
type Module struct {
	// Name is what messages and traces call it.
	Name string `json:"name"`
	// FD is the original module's bytes.
	FD int `json:"fd"`
	// Artifact is the compiled form that package artifact stored; 0 means compile in place.
	Artifact int `json:"artifact,omitempty"`
}

// Preopen is a directory given to the guest.
type Preopen struct {
	// Guest is the name that the guest sees, for example "/".
	Guest string `json:"guest"`
	// Path is where the engine opens it, after it entered its jail.
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Listener is a listening socket given to the guest.
type Listener struct {
	FD int `json:"fd"`
	// Name is its entry in LISTEN_FDNAMES, for example "tcp-8080".
	Name string `json:"name"`
}

// Start lets the guest run.
type Start struct{}

// Stop asks the guest to end. The engine takes no new connections, lets the ones that are open finish,
// and ends the guest with 128+Signal when they are closed or after Grace milliseconds.
type Stop struct {
	Signal int   `json:"signal"`
	Grace  int64 `json:"graceMillis"`
}

// Limit moves the ceiling of the guest's linear memory, in bytes.
type Limit struct {
	Memory uint64 `json:"memory"`
}

// Ready says that the guest is loaded and waits for Start.
type Ready struct{}

// Failed says that the guest cannot run; the engine exits after it.
type Failed struct {
	Error string `json:"error"`
}

// Exit says how the guest ended; the engine exits after it.
type Exit struct {
	// Code is proc_exit's code, 134 for a trap, or 128+signal after Stop.
	Code uint32 `json:"code"`
	// OOM says that the guest was refused memory at its ceiling and did not survive that.
	OOM bool `json:"oom,omitempty"`
}

// Write sends one frame.
func Write(w io.Writer, m *Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("write frame: %d bytes exceed %d (shorten args or environment)", len(body), MaxFrame)
	}
	frame := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Read receives one frame of at most limit bytes. It returns io.EOF when the other side closed between
// frames.
func Read(r io.Reader, limit int) (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read frame: %w", err)
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	if n > int64(limit) {
		return nil, fmt.Errorf("read frame: %d bytes exceed %d", n, limit)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	m := new(Message)
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return m, nil
}
