package install

import (
	"bytes"
	"sync"
	"syscall"

	"loadnode/transfer/disk"
)

// memory is a target in memory, of a fixed size like a device, that can be made to fail.
type memory struct {
	mu     sync.Mutex
	data   []byte
	fixed  bool
	syncs  int
	failAt int64 // writes that touch this byte fail, -1: none
	fail   error
}

func newMemory(size int) *memory {
	m := &memory{data: make([]byte, size), fixed: true, failAt: -1}
	const period = 128 << 10 // of what every sector of is another
	for i := range min(size, period) {
		m.data[i] = byte(i*31 + i>>9)
	}
	for n := period; n < size; n *= 2 {
		copy(m.data[n:], m.data[:n])
	}
	return m
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failAt >= off && m.failAt < off+int64(len(p)) {
		return copy(m.data[off:], p[:m.failAt-off]), m.fail
	}
	if !m.fixed && off+int64(len(p)) > int64(len(m.data)) {
		m.data = append(m.data, make([]byte, off+int64(len(p))-int64(len(m.data)))...)
	}
	if off+int64(len(p)) > int64(len(m.data)) {
		return 0, syscall.ENOSPC
	}
	return copy(m.data[off:], p), nil
}

func (m *memory) Size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.data))
}
func (m *memory) Fixed() bool { return m.fixed }
func (m *memory) Extend(size int64) error {
	if size <= int64(len(m.data)) {
		return nil
	}
	if m.fixed {
		return disk.ErrTooSmall
	}
	m.data = append(m.data, make([]byte, size-int64(len(m.data)))...)
	return nil
}
func (m *memory) Zero(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failAt >= off && m.failAt < off+n {
		return m.fail
	}
	if end := min(off+n, int64(len(m.data))); off < end {
		clear(m.data[off:end])
	}
	return nil
}
func (m *memory) Sync() error  { m.syncs++; return nil }
func (m *memory) Close() error { return nil }
