//go:build linux

package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// catchTerm ends the program on SIGTERM as a shell reports it; the first process of a pid namespace gets no
// default action from the kernel.
func catchTerm() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT)
	go func() {
		s := (<-c).(unix.Signal)
		os.Exit(128 + int(s))
	}()
}

func ids([]string) int {
	groups, _ := unix.Getgroups()
	var g []string
	for _, id := range groups {
		g = append(g, fmt.Sprint(id))
	}
	return say(fmt.Sprintf("%d:%d:%s", unix.Getuid(), unix.Getgid(), strings.Join(g, ",")))
}

func tty([]string) int {
	ws, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
	if err != nil {
		return check(fmt.Errorf("stdout is no terminal: %w", err))
	}
	return say(fmt.Sprintf("%dx%d", ws.Col, ws.Row))
}
