package main

import (
	"fmt"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
	"github.com/docker/go-units"
)

// screen is the live table, a model of bubbletea.
type screen struct {
	read     func() (sample, error)
	interval time.Duration
	order    order
	// done ends the wait for the next reading.
	done <-chan struct{}

	last sample
	rows []usage
	// err is the last reading's; the table before it stays.
	err           error
	width, height int
}

// readMsg is a finished reading; tickMsg asks for the next one.
type (
	readMsg struct {
		sample
		err error
	}
	tickMsg struct{}
)

func (s *screen) Init() tea.Cmd { return s.reading }

func (s *screen) reading() tea.Msg {
	now, err := s.read()
	return readMsg{now, err}
}

// wait is bubbletea's Tick, except that it ends with the program.
func (s *screen) wait() tea.Msg {
	t := time.NewTimer(s.interval)
	defer t.Stop()
	select {
	case <-t.C:
		return tickMsg{}
	case <-s.done:
		return nil
	}
}

func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.KeyMsg:
		if msg.Type == tea.KeyCtrlC || msg.Type == tea.KeyEsc {
			return s, tea.Quit
		}
		for _, key := range msg.Runes { // several, when they were typed faster than they were read
			if key == 'q' {
				return s, tea.Quit
			}
			s.press(key)
		}
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tickMsg:
		return s, s.reading
	case readMsg:
		if s.err = msg.err; s.err == nil {
			s.rows = usages(s.last, msg.sample)
			s.order.sort(s.rows)
			s.last = msg.sample
		}
		return s, s.wait
	}
	return s, nil
}

func (s *screen) press(key rune) {
	for _, o := range orders {
		if o.key == key {
			s.order = o
			s.order.sort(s.rows)
		}
	}
}

// View draws the table, cut to the terminal.
func (s *screen) View() string {
	var table strings.Builder
	_ = writeTable(&table, s.rows) // a Builder takes everything
	lines := append([]string{s.title(), ""}, strings.Split(strings.TrimRight(table.String(), "\n"), "\n")...)
	foot := s.keys()
	if s.err != nil {
		foot = "cannot read: " + harmless(s.err.Error())
	}
	if room := s.height - 2; s.height > 4 && len(lines) > room {
		more := len(lines) - room
		lines = append(lines[:room-1], fmt.Sprintf("... and %d more", more+1))
	}
	lines = append(lines, "", foot)
	for k, line := range lines {
		if s.width > 0 {
			lines[k] = ansi.Truncate(line, s.width, "")
		}
	}
	return strings.Join(lines, "\n")
}

// title sums up.
func (s *screen) title() string {
	var cpu, in, out float64
	var memory uint64
	for _, u := range s.rows {
		cpu, in, out, memory = cpu+max(u.cpu, 0), in+max(u.in, 0), out+max(u.out, 0), memory+u.Memory
	}
	return fmt.Sprintf("hachi top  %s  containers %d  CPU %.1f %%  memory %s  in %s/s  out %s/s", s.last.at.Format(time.TimeOnly), len(s.rows),
		cpu, units.BytesSize(float64(memory)), perSecond(in), perSecond(out))
}

func (s *screen) keys() string {
	out := make([]string, 0, len(orders)+1)
	for _, o := range orders {
		text := string(o.key) + " " + o.name
		if o.name == s.order.name {
			text = "[" + text + "]"
		}
		out = append(out, text)
	}
	return "sort: " + strings.Join(out, "  ") + "   q quit"
}
