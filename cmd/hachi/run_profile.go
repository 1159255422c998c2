package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// profileFile is where a guest's profile goes: what the engine writes, and the file in which it ends up, compressed.
type profileFile struct{ raw, out *os.File }

func createProfile(path string) (*profileFile, error) {
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("hachi-profile", unix.MFD_CLOEXEC)
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("make profile: %w", err)
	}
	return &profileFile{os.NewFile(uintptr(fd), "profile"), out}, nil
}

// finish writes the file, when the engine is gone.
func (p *profileFile) finish() error {
	info, err := p.raw.Stat()
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	if info.Size() == 0 {
		return fmt.Errorf("no profile in %s: the guest did not run to an end, or was killed", p.out.Name())
	}
	z := gzip.NewWriter(p.out)
	_, err = io.Copy(z, io.NewSectionReader(p.raw, 0, info.Size()))
	if err = errors.Join(err, z.Close()); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

func (p *profileFile) close() {
	p.raw.Close()
	p.out.Close()
}
