// Package probe finds out what this kernel and this process can do for eBPF, by trying, and says so in words.
package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Answer is what a probe found.
type Answer int

const (
	// Unknown: the probe itself did not work, for want of privilege for example. It is the zero value.
	Unknown Answer = iota
	Yes
	No
)

func (a Answer) String() string {
	return [...]string{"could not tell", "ok", "missing"}[a]
}

// MarshalText writes "yes", "no" or "unknown".
func (a Answer) MarshalText() ([]byte, error) {
	return []byte([...]string{"unknown", "yes", "no"}[a]), nil
}

// Result is one probe's.
type Result struct {
	Name   string `json:"name"`
	Answer Answer `json:"answer"`
	// For is what hachi cannot do without it: "accounting", "flows", "redirection", or several.
	For string `json:"for"`
	// Needs is what gives it: a kernel version with an option, a mount, a capability.
	Needs string `json:"needs"`
	// Why is what was found, where the answer is not yes; for some probes also where it is.
	Why string `json:"why,omitempty"`
}

// A question is asked by trying: nil is yes, an absence is no, any other error is unknown.
type question struct {
	name, is, needs string
	ask             func() error
}

// absence is an error that answers no.
type absence struct{ error }

func absent(format string, args ...any) error { return absence{fmt.Errorf(format, args...)} }

func (q question) result() Result {
	r := Result{Name: q.name, For: q.is, Needs: q.needs}
	err := q.ask()
	var gone absence
	switch {
	case err == nil:
		r.Answer = Yes
		return r
	case errors.As(err, &gone), errors.Is(err, ebpf.ErrNotSupported):
		r.Answer = No
	case errors.Is(err, unix.EPERM) && Privilege() == nil:
		// Some kernels refuse a kind of program to root too, and do not say that they lack it.
		r.Answer, err = No, fmt.Errorf("refused to root too, by a lockdown for example: %w", err)
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("the kernel lets root alone try: %w", err)
	}
	r.Why = err.Error()
	return r
}

// All asks everything. It takes some milliseconds, loads small programs, and leaves nothing behind.
func All() []Result { return append(answers(machine()), Features()...) }

// Features asks of what kinds of programs and maps hachi's hooks can be made here: All without what surrounds them.
func Features() []Result { return answers(features()) }

func answers(questions []question) []Result {
	results := make([]Result, len(questions))
	for k, q := range questions {
		results[k] = q.result()
	}
	return results
}
