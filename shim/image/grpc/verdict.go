package grpc

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/hachi-run/hachi/shim/status"
	"github.com/hachi-run/hachi/shim/status/statuspb"
)

// verdict is the error that the end of a reply tells. h is nil where a reply ended without trailers.
func (h *header) verdict() error {
	if h == nil {
		h = new(header)
	}
	code, err := strconv.ParseUint(h.status, 10, 31)
	if err != nil {
		return status.Errorf(status.Internal, "the reply ends with grpc-status %q", h.status)
	}
	if code == 0 {
		return nil
	}
	e := &status.Error{Code: status.Code(code), Message: unescape(h.message)}
	if e.Unwrap() == nil {
		e.Code = status.Unknown // as gRPC has it for codes that came later (statuscodes.md)
	}
	if e.Message == "" {
		e.Message = "grpc-status " + h.status
	}
	// Details that cannot be read must not hide the error.
	var all statuspb.Status
	if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(h.details, "=")); err == nil && all.UnmarshalVT(raw) == nil {
		e.Details = all.Details
	}
	return e
}

// unescape decodes a grpc-message; what is badly escaped stays as it is ("Percent-Encoded").
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(c))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// httpCode is what an answer from something else than a gRPC server means (grpc.io, http-grpc-status-mapping.md).
func httpCode(code int) status.Code {
	switch code {
	case 404:
		return status.Unimplemented
	case 429, 502, 503, 504:
		return status.Unavailable
	}
	return status.Unknown
}

// code is what the end of a stream means ("Errors").
func (r reason) code() status.Code {
	switch r {
	case refusedStream:
		return status.Unavailable
	case cancel:
		return status.Canceled
	case enhanceYourCalm:
		return status.ResourceExhausted
	case inadequateSecurity:
		return status.PermissionDenied
	}
	return status.Internal
}
