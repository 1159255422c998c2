package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// memory measures engine processes: with the guest loaded, and when it has run for two seconds and is idle. The
// server is compared with the same program, native.
func (l *lab) memory(ctx context.Context) ([]row, error) {
	http := row{what: "engine idle, Go net/http, PSS", unit: "MB", against: "native"}
	rows := []row{
		{what: "engine loaded, Go net/http, PSS", unit: "MB"},
		{what: "engine loaded, Go net/http, private dirty", unit: "MB", atMost: 5},
		{what: "engine loaded, C, PSS", unit: "MB"},
		{what: "engine loaded, C, private dirty", unit: "MB"},
		{what: "engine idle, C, PSS", unit: "MB"},
	}
	const times = 3
	for range times {
		for i, p := range []program{l.http, l.idle} {
			if p.file == "" {
				continue
			}
			address, err := free()
			if err != nil {
				return nil, err
			}
			e, err := l.start(ctx, p, nil, address)
			if err != nil {
				return nil, err
			}
			rows[2*i].ours = append(rows[2*i].ours, rollup(e.Pid(), "Pss"))
			rows[2*i+1].ours = append(rows[2*i+1].ours, rollup(e.Pid(), "Private_Dirty"))
			if err := e.Run(); err != nil {
				return nil, err
			}
			time.Sleep(2 * time.Second) // start-up garbage is not what an idle guest costs
			pss := rollup(e.Pid(), "Pss")
			if i == 0 {
				http.ours = append(http.ours, pss)
			} else {
				rows[4].ours = append(rows[4].ours, pss)
			}
			end(e)
		}
		native, _, err := l.serveNative()
		if err != nil {
			return nil, err
		}
		time.Sleep(2 * time.Second)
		http.theirs = append(http.theirs, rollup(native.Process.Pid, "Pss"))
		stop(native)
	}
	var made []row
	for _, r := range append(rows, http) {
		if len(r.ours) > 0 {
			made = append(made, r)
		}
	}
	return made, nil
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it fails only when it is over already
	_ = cmd.Wait()
}

// rollup is a line of proc(5)'s smaps_rollup, in megabytes.
func rollup(pid int, what string) float64 {
	for line := range strings.Lines(read(fmt.Sprintf("/proc/%d/smaps_rollup", pid))) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == what+":" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib * 1024 / 1e6
		}
	}
	return 0
}
