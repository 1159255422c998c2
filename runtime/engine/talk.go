package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode"

	"github.com/hachi-run/hachi/runtime/wire"
)

const (
	// maxReply bounds what an engine may say at once, in bytes.
	maxReply = 64 << 10
	// maxReason bounds how much of what it says goes into a message, in bytes.
	maxReason = 4 << 10
)

// post hands a message to the goroutine that speaks. It says false when too many wait already.
func (p *Process) post(m *wire.Message) bool {
	select {
	case p.outbox <- letter{Message: m}:
		return true
	default:
		return false
	}
}

// speak sends what is posted, the configuration first, until the engine is gone.
func (p *Process) speak(gone <-chan struct{}) {
	for {
		var l letter
		select {
		case l = <-p.outbox:
		case <-gone:
			return
		}
		if err := p.send(l); err != nil {
			if !silence(err) { // which listen hears too
				p.answer(fmt.Errorf("%w: %w", ErrRefused, err))
				p.end()
			}
			return
		}
	}
}

func (p *Process) send(l letter) error {
	if l.Config != nil {
		return wire.Send(p.control, l.Config, l.files)
	}
	return wire.Write(p.control, l.Message)
}

// listen reads what the engine says. An engine that ends the talk, or says what it should not, is dead or will be.
func (p *Process) listen() {
	defer p.end()
	if err := p.hear(); !silence(err) {
		p.answer(fmt.Errorf("load guest: engine broke the protocol: %w", err))
	}
}

// silence tells whether err is what the end of the process looks like on its socket; then the process's status says more.
func silence(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE, syscall.ECONNRESET, os.ErrDeadlineExceeded} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// hear expects Failed, or Ready and later Exit, and nothing then; and an answer to each Limit.
func (p *Process) hear() error {
	ready := false
	for last := false; !last; {
		m, err := wire.Read(p.control, maxReply)
		switch {
		case err != nil:
			return err
		case m.Limited != nil:
			if !p.limited() {
				return errors.New("answered a limit that nobody set")
			}
		case m.Failed != nil && !ready:
			kind := ErrRefused
			if m.Failed.Listen {
				kind = ErrListen
			}
			p.answer(fmt.Errorf("%w: %s", kind, printable(m.Failed.Error)))
			last = true
		case m.Ready != nil && !ready:
			ready = true
			p.answer(nil)
		case m.Exit != nil && ready:
			p.mu.Lock()
			p.said = m.Exit
			p.mu.Unlock()
			last = true
		case ready:
			return errors.New("said something else than how its guest ended")
		default:
			return errors.New("said neither that its guest is ready nor why not")
		}
	}
	p.mu.Lock()
	p.endWithin(killDelay)
	p.mu.Unlock()
	_, err := wire.Read(p.control, maxReply)
	if err == nil {
		err = errors.New("went on after its last word")
	}
	return err
}

// printable makes what an engine said fit for a log or a terminal.
func printable(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s))
}
