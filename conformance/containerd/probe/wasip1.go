//go:build wasip1

package main

import "os"

// A guest gets no signals: the runtime ends it.
func catchTerm() {}

// WASI has no user; files made by the guest show who it is.
func ids([]string) int { return say("no ids in preview 1") }

func tty([]string) int {
	info, err := os.Stdout.Stat()
	if err != nil {
		return check(err)
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return say("stdout is no terminal")
	}
	return say("terminal")
}
