package taskpb

import (
	"fmt"
	"time"
)

// Time is a time as containerd's messages have it.
func Time(t time.Time) *Timestamp {
	return &Timestamp{Seconds: t.Unix(), Nanos: int32(t.Nanosecond())}
}

// Pack puts a message of the type with that name, for example "containerd.events.TaskStart", into an Any.
func Pack(name string, m interface{ MarshalVT() ([]byte, error) }) (*Any, error) {
	body, err := m.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return &Any{TypeUrl: name, Value: body}, nil
}
