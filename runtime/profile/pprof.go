package profile

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Wire types of protocol buffers; the little that is written here needs no library, which an engine would start with.
const (
	varint = 0
	length = 2
)

// Numbers of the fields in pprof's profile.proto (github.com/google/pprof/proto).
const (
	profileSampleType, profileSample, profileLocation, profileFunction, profileStrings = 1, 2, 4, 5, 6
	profileTime, profileDuration, profilePeriodType, profilePeriod                     = 9, 10, 11, 12

	valueType, valueUnit            = 1, 2
	sampleLocations, sampleValues   = 1, 2
	locationID, locationLine        = 1, 4
	lineFunction                    = 1
	functionID, functionName, sysID = 1, 2, 3
)

// encoder builds a profile message.
type encoder struct {
	out     []byte
	strings map[string]uint64
	table   []string
	// ids are the functions' and, with the same numbers, their locations'.
	ids map[uint32]uint64
}

// Write writes what was recorded. Files of pprof are gzipped by custom, which is left to the caller; pprof reads both.
// name is asked for each function that was seen, except Other.
func (r *Recorder) Write(w io.Writer, name func(function uint32) string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &encoder{strings: map[string]uint64{}, ids: map[uint32]uint64{}}
	e.text("") // the first string is empty
	e.message(profileSampleType, e.value("samples", "count"))
	e.message(profileSampleType, e.value("cpu", "nanoseconds"))
	for _, stack := range slices.Sorted(maps.Keys(r.stacks)) {
		n := r.stacks[stack]
		e.sample(stack, n, n*uint64(r.period))
	}
	for function, id := range e.ids {
		e.function(function, id, name)
	}
	e.number(profileTime, uint64(r.begun.UnixNano()))
	e.number(profileDuration, uint64(time.Since(r.begun)))
	e.message(profilePeriodType, e.value("cpu", "nanoseconds"))
	e.number(profilePeriod, uint64(r.period))
	for _, s := range e.table {
		e.message(profileStrings, []byte(s))
	}
	if _, err := w.Write(e.out); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

func (e *encoder) message(field uint64, body []byte) { e.out = message(e.out, field, body) }
func (e *encoder) number(field, v uint64)            { e.out = number(e.out, field, v) }

func message(b []byte, field uint64, body []byte) []byte {
	b = binary.AppendUvarint(b, field<<3|length)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

func number(b []byte, field, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, field<<3|varint), v)
}

// packed is a repeated field of numbers.
func packed(b []byte, field uint64, values []uint64) []byte {
	var body []byte
	for _, v := range values {
		body = binary.AppendUvarint(body, v)
	}
	return message(b, field, body)
}

// text returns a string's place in the table.
func (e *encoder) text(s string) uint64 {
	at, known := e.strings[s]
	if !known {
		at = uint64(len(e.table))
		e.strings[s] = at
		e.table = append(e.table, s)
	}
	return at
}

func (e *encoder) value(kind, unit string) []byte {
	return number(number(nil, valueType, e.text(kind)), valueUnit, e.text(unit))
}

func (e *encoder) sample(stack string, values ...uint64) {
	var locations []uint64
	for k := 0; k < len(stack); k += 4 {
		f := binary.LittleEndian.Uint32([]byte(stack[k : k+4]))
		id, known := e.ids[f]
		if !known {
			id = uint64(len(e.ids)) + 1
			e.ids[f] = id
		}
		locations = append(locations, id)
	}
	e.message(profileSample, packed(packed(nil, sampleLocations, locations), sampleValues, values))
}

// function writes a function and its one location.
func (e *encoder) function(index uint32, id uint64, name func(uint32) string) {
	text := "(stacks that there was no room for)"
	if index != Other {
		text = name(index)
	}
	at := e.text(text)
	e.message(profileFunction, number(number(number(nil, functionID, id), functionName, at), sysID, at))
	e.message(profileLocation, message(number(nil, locationID, id), locationLine, number(nil, lineFunction, id)))
}
