// Package status is how errors cross between hachi's processes and containerd: the status codes of gRPC, which ttrpc
// shares (grpc.io, statuscodes.md), and what containerd's packages mean by them.
package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/hachi-run/hachi/shim/status/statuspb"
)

// Code is a status code.
type Code uint32

// The codes.
const (
	OK Code = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// natives are containerd's errors, and those of contexts, for each code.
var natives = map[Code]error{
	Canceled:           context.Canceled,
	Unknown:            errdefs.ErrUnknown,
	InvalidArgument:    errdefs.ErrInvalidArgument,
	DeadlineExceeded:   context.DeadlineExceeded,
	NotFound:           errdefs.ErrNotFound,
	AlreadyExists:      errdefs.ErrAlreadyExists,
	PermissionDenied:   errdefs.ErrPermissionDenied,
	ResourceExhausted:  errdefs.ErrResourceExhausted,
	FailedPrecondition: errdefs.ErrFailedPrecondition,
	Aborted:            errdefs.ErrAborted,
	OutOfRange:         errdefs.ErrOutOfRange,
	Unimplemented:      errdefs.ErrNotImplemented,
	Internal:           errdefs.ErrInternal,
	Unavailable:        errdefs.ErrUnavailable,
	DataLoss:           errdefs.ErrDataLoss,
	Unauthenticated:    errdefs.ErrUnauthenticated,
}

// Error is an error that came over a connection, or is about to go over one. It is (errors.Is) the error of package errdefs or
// context that its code stands for.
type Error struct {
	Code    Code
	Message string
	// Details are what a server said beyond its message; they only pass through.
	Details []*statuspb.Any
}

// Errorf makes an error with a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap returns what the code stands for; nil for a code that nobody has defined.
func (e *Error) Unwrap() error { return natives[e.Code] }

// Of is err as it goes over a connection; nil for nil. An Error that err wraps lends its code and details to err's own
// words; the code is Unknown where err stands for none.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return &Error{Code: e.Code, Message: err.Error(), Details: e.Details}
	}
	native := errdefs.Resolve(err)
	for code, n := range natives {
		if n == native { //nolint:errorlint // Resolve returns the very value
			return &Error{Code: code, Message: err.Error()}
		}
	}
	return &Error{Code: Unknown, Message: err.Error()}
}
