// Package jail confines the calling process, for good, to what one Wasm guest needs.
//
// The engine enters its jail before it reads a byte of the guest's module: it takes the guest's root
// file system, becomes the spec's user, gives up every capability, and closes the kernel's doors with
// Landlock and seccomp. What is left can compute, use the file descriptors it was born with, open
// files beneath its root and talk TCP and UDP; it cannot execute, trace, mount or escape.
package jail

// Config is what the jail looks like. The zero value changes neither root nor user; it leaves no file to
// open, drops capabilities, sets no_new_privs and installs the seccomp filter.
type Config struct {
	// Root is the file system the process moves into; nil keeps the current one, as `hachi run` does.
	Root *Root `json:"root,omitempty"`
	// Paths are the only files and trees that stay reachable when Root is nil (Landlock, Linux 5.13; without
	// it the error is ErrNoLandlock). With a Root they are ignored: all of it is reachable. Descriptors that are
	// open already stay usable either way.
	Paths []Path `json:"paths,omitempty"`
	// User is who the process becomes; nil keeps the current user and groups.
	User *User `json:"user,omitempty"`
	// Rlimits are set as they stand, before privileges are dropped.
	Rlimits []Rlimit `json:"rlimits,omitempty"`
	// OOMScoreAdj is written to /proc/self/oom_score_adj; nil leaves the inherited value, which also stays where
	// a lower one needs CAP_SYS_RESOURCE and the process does not have it.
	OOMScoreAdj *int `json:"oomScoreAdj,omitempty"`
}

// Root is a root file system: either one to build in the process's own new mount namespace, or one
// that another process of the container built before.
type Root struct {
	// FD, when above zero, is an O_PATH descriptor of a finished root (`/proc/PID/root` of the
	// container's first process); the process only moves into it and all other fields are ignored.
	FD int `json:"fd,omitempty"`
	// Path is the host's absolute path of the directory to build on, usually <bundle>/rootfs.
	Path string `json:"path,omitempty"`
	// Rootfs are mounted on Path in order; empty means Path already is the root's content.
	Rootfs []Mount `json:"rootfs,omitempty"`
	// Mounts are mounted inside the root in order, targets resolved within it and created where missing: bind
	// and tmpfs. A tmpfs on /dev gets null, zero, full, random and urandom. proc, sysfs, devpts, mqueue, cgroup
	// and cgroup2 are left out. All mounts are nodev and nosuid; a bind without a propagation option is
	// rprivate, and shared means slave.
	Mounts []Mount `json:"mounts,omitempty"`
	// ReadOnly makes the root itself (not the mounts in it) read-only.
	ReadOnly bool `json:"readOnly,omitempty"`
	// MaskedPaths are hidden and ReadonlyPaths are made read-only, where they exist.
	MaskedPaths   []string `json:"maskedPaths,omitempty"`
	ReadonlyPaths []string `json:"readonlyPaths,omitempty"`
}

// Mount is one mount in the OCI spec's terms.
type Mount struct {
	Target  string   `json:"target,omitempty"`
	Type    string   `json:"type,omitempty"`
	Source  string   `json:"source,omitempty"`
	Options []string `json:"options,omitempty"`
}

// Path is a host tree that the process may use.
type Path struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// User is a numeric identity.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	// Umask is the file mode mask; nil means 0022.
	Umask *uint32 `json:"umask,omitempty"`
}

// Rlimit is one resource limit by its OCI name, for example RLIMIT_NOFILE.
type Rlimit struct {
	Type string `json:"type"`
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}
