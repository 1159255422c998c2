package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hachi-run/hachi/shim/install/conf"
)

// write changes files and remembers how they were.
func (i *Installer) write(changes []conf.Change, back *undo) error {
	for _, c := range changes {
		old, err := i.host.ReadFile(c.Name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		existed := err == nil
		back.add("change of "+c.Name, func() error {
			if !existed {
				return i.host.Remove(c.Name)
			}
			return i.host.WriteFile(c.Name, old)
		})
		if c.Text == nil {
			err = i.host.Remove(c.Name)
		} else {
			err = i.keep(c.Name, old)
			if err == nil {
				err = i.host.WriteFile(c.Name, c.Text)
			}
		}
		if err != nil {
			return fmt.Errorf("write containerd's configuration: %w", err)
		}
		i.log.Info("containerd's configuration changed", "file", c.Name)
	}
	return nil
}

// backupSuffix names the copy of an operator's file from before its first change.
const backupSuffix = ".before-hachi"

// keep saves an operator's file beside itself, once.
func (i *Installer) keep(name string, old []byte) error {
	if len(old) == 0 || conf.Ours(old) {
		return nil
	}
	return i.host.WriteFile(name+backupSuffix, old)
}

// validate lets the node's own containerd read the new configuration. Where its program cannot be run from here, that
// it is TOML, which is known by now, has to do. What it understood must show the given text.
func (i *Installer) validate(ctx context.Context, d *containerd, shows string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	program, err := i.executable(d.pid)
	if err != nil {
		i.log.Warn("the new configuration is not checked before the restart: containerd's program is not found on the host", "error", err)
		return nil
	}
	out, err := i.inRoot(ctx, program, "--config", i.o.Config, "config", "dump")
	if err != nil {
		return fmt.Errorf("check containerd's new configuration: %s config dump: %w%s", program, err, tail(out))
	}
	if !strings.Contains(string(out), shows) {
		return fmt.Errorf("check containerd's new configuration: %s config dump does not show %s", program, shows)
	}
	return nil
}

// executable is the program of a process, as a name of the host.
func (i *Installer) executable(pid int) (string, error) {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", err
	}
	at, err := i.host.At(name)
	if err != nil {
		return "", err
	}
	var here, there unix.Stat_t
	if err := unix.Stat(at, &here); err != nil {
		return "", err
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &there); err != nil {
		return "", err
	}
	if here.Ino != there.Ino || here.Dev != there.Dev {
		return "", fmt.Errorf("%s is not the file that process %d executes", name, pid)
	}
	return name, nil
}
