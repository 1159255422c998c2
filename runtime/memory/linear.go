package memory

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// smallPages is how much of a memory's start never gets huge pages, in bytes. An idle guest touches a
// few pages here and there in it; with huge pages each would cost 2 MiB. What lies beyond belongs to guests
// that are big anyway.
const smallPages = 64 << 20

// linear is one linear memory.
type linear struct {
	owner *Allocator
	// max is the largest size that will be asked for, in bytes.
	max   uint64
	image Image
	// region is the reserved address space; its first size bytes (rounded up to pages) are accessible.
	region []byte
	size   uint64
	made   bool
}

// reserve takes address space. When there is not enough for all of max, as under RLIMIT_AS, it takes
// half of what there is, because the process needs some too: grow moves the memory then.
func (m *linear) reserve() {
	full := roundUp(m.max)
	for n := full; n >= pageSize; n /= 2 {
		b, err := mapNone(roundUp(n))
		if err != nil {
			continue
		}
		if n < full {
			_ = unix.Munmap(b)
			if b, err = mapNone(roundUp(n / 2)); err != nil {
				return
			}
		}
		m.region = b
		return
	}
}

func mapNone(n uint64) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, int(n), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err == nil {
		// Best effort, for kernels with transparent huge pages set to "always".
		_ = unix.Madvise(b[:min(n, smallPages)], unix.MADV_NOHUGEPAGE)
	}
	return b, err
}

// Reallocate implements experimental.LinearMemory. wazero calls it first with the initial size and
// treats nil as impossible then; so that first refusal is a panic, which Allocator.Instantiate catches.
func (m *linear) Reallocate(size uint64) []byte {
	if err := m.resize(size); err != nil {
		if !m.made {
			m.Free()
			panic(&refusal{err})
		}
		return nil
	}
	if !m.made {
		m.made = true
		if m.image != nil {
			if err := m.image(m.region[:size:size]); err != nil {
				m.Free()
				panic(&refusal{fmt.Errorf("fill memory: %w", err)})
			}
		}
	}
	return m.region[:size:size]
}

func (m *linear) resize(size uint64) error {
	if size > m.max {
		return fmt.Errorf("%d bytes exceed the module's maximum of %d: %w", size, m.max, ErrLimit)
	}
	if size <= m.size {
		return nil // WebAssembly memories never shrink
	}
	if err := m.owner.take(m.size, size); err != nil {
		return err
	}
	if err := m.open(size); err != nil {
		m.owner.giveBack(m.size, size)
		return fmt.Errorf("%d bytes: %w: %w", size, err, ErrLimit)
	}
	m.size = size
	return nil
}

// open makes the pages up to size accessible.
func (m *linear) open(size uint64) error {
	from, to := roundUp(m.size), roundUp(size)
	if to > uint64(len(m.region)) {
		return m.move(to)
	}
	if to == from {
		return nil
	}
	return unix.Mprotect(m.region[from:to], unix.PROT_READ|unix.PROT_WRITE)
}

// move goes to a larger reservation, copying what is there. It only happens where address space is limited, and
// needs old and new at once; a shared memory may not move and wazero traps.
func (m *linear) move(to uint64) error {
	// Half as much again saves the next few moves, if it is to be had.
	b, err := mapNone(min(roundUp(m.max), roundUp(to+to/2)))
	if err != nil {
		if b, err = mapNone(to); err != nil {
			return err
		}
	}
	if err := unix.Mprotect(b[:to], unix.PROT_READ|unix.PROT_WRITE); err != nil {
		_ = unix.Munmap(b)
		return err
	}
	copy(b, m.region[:m.size])
	if len(m.region) > 0 {
		_ = unix.Munmap(m.region)
	}
	m.region = b
	return nil
}

// Free implements experimental.LinearMemory. Nobody may touch the memory afterwards.
func (m *linear) Free() {
	if m.size > 0 {
		_ = m.owner.take(m.size, 0)
		m.size = 0
	}
	if len(m.region) > 0 {
		_ = unix.Munmap(m.region)
		m.region = nil
	}
}
