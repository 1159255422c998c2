package grpc

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// kind is a frame's type (RFC 9113, 6).
type kind uint8

const (
	kindData kind = iota
	kindHeaders
	kindPriority
	kindReset
	kindSettings
	kindPush
	kindPing
	kindGoAway
	kindWindow
	kindContinuation
)

// String returns RFC 9113's name.
func (k kind) String() string {
	names := [...]string{"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("type %d", uint8(k))
}

// The flags of frames.
const (
	flagEndStream  = 0x1  // DATA, HEADERS
	flagAck        = 0x1  // SETTINGS, PING
	flagEndHeaders = 0x4  // HEADERS, CONTINUATION
	flagPadded     = 0x8  // DATA, HEADERS
	flagPriority   = 0x20 // HEADERS
)

// reason is an error code (RFC 9113, 7).
type reason uint32

const (
	noError reason = iota
	protocolError
	internalError
	flowControlError
	settingsTimeout
	streamClosed
	frameSizeError
	refusedStream
	cancel
	compressionError
	connectError
	enhanceYourCalm
	inadequateSecurity
	http11Required
)

// String returns RFC 9113's name.
func (r reason) String() string {
	names := [...]string{"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
		"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"}
	if int64(r) < int64(len(names)) {
		return names[r]
	}
	return fmt.Sprintf("error %d", uint32(r))
}

// violation is what the server did that ends a connection (RFC 9113, 5.4.1).
type violation struct {
	reason reason
	text   string
}

func (v *violation) Error() string { return v.reason.String() + ": " + v.text }

func violated(r reason, format string, args ...any) error {
	return &violation{r, fmt.Sprintf(format, args...)}
}

const (
	frameHead = 9
	// maxFrame is the payload of a frame, both ways: every peer takes that much, and we announce no more (RFC 9113, 4.2).
	maxFrame = 16 << 10
)

type frame struct {
	kind    kind
	flags   uint8
	stream  uint32
	payload []byte
}

// readFrame reads a frame; its payload is valid until the next read. in has room for a whole one.
func readFrame(in *bufio.Reader) (frame, error) {
	head, err := in.Peek(frameHead)
	if err != nil {
		return frame{}, err
	}
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	f := frame{kind: kind(head[3]), flags: head[4], stream: binary.BigEndian.Uint32(head[5:]) &^ (1 << 31)}
	if size > maxFrame {
		return f, violated(frameSizeError, "%v frame of %d bytes, more than %d", f.kind, size, maxFrame)
	}
	whole, err := in.Peek(frameHead + size)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return f, err
	}
	f.payload = whole[frameHead:]
	_, err = in.Discard(len(whole))
	return f, err
}

// content is the payload without padding, and without the priority of HEADERS (RFC 9113, 6.1 and 6.2).
func (f frame) content() ([]byte, error) {
	rest, padding := f.payload, 0
	if f.flags&flagPadded != 0 {
		if len(rest) == 0 {
			return nil, violated(frameSizeError, "%v frame without its padding's length", f.kind)
		}
		padding, rest = int(rest[0]), rest[1:]
	}
	if f.kind == kindHeaders && f.flags&flagPriority != 0 {
		if len(rest) < 5 {
			return nil, violated(frameSizeError, "%v frame without its priority", f.kind)
		}
		rest = rest[5:]
	}
	if padding > len(rest) {
		return nil, violated(protocolError, "%v frame of %d bytes with %d bytes of padding", f.kind, len(f.payload), padding)
	}
	return rest[:len(rest)-padding], nil
}

// appendFrame adds a frame to b. The payload is at most maxFrame long.
func appendFrame(b []byte, k kind, flags uint8, stream uint32, payload ...byte) []byte {
	b = append(b, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), byte(k), flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// appendNumbers adds a frame whose payload is numbers of 32 bits.
func appendNumbers(b []byte, k kind, stream uint32, numbers ...uint32) []byte {
	var payload [8]byte
	p := payload[:0]
	for _, n := range numbers {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	return appendFrame(b, k, 0, stream, p...)
}

// The settings that matter here (RFC 9113, 6.5.2).
const (
	settingPush       = 2
	settingStreams    = 3
	settingWindow     = 4
	settingFrame      = 5
	settingHeaderList = 6
)

func appendSetting(b []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, id), value)
}
