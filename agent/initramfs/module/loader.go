package module

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Loader puts modules into the running kernel, each once. It may be used from
// several goroutines.
type Loader struct {
	Index *Index
	Dir   string // of the kernel's modules, such as /lib/modules/6.1.0
	// Insert hands one open file to the kernel; nil: finit_module(2).
	Insert func(f *os.File) error

	mu   sync.Mutex
	done map[string]error // by path
}

// ErrUnknown says that there is no such module; it may be a part of the kernel.
var ErrUnknown = errors.New("no such module")

// Load loads a module after what it needs. What it needs and cannot be loaded
// is not an error by itself: a driver of an instruction that the processor
// lacks refuses, and another one does the same work.
func (l *Loader) Load(name string) error {
	m, ok := l.Index.Lookup(name)
	if !ok {
		return fmt.Errorf("module %s: %w", name, ErrUnknown)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing error
	for _, p := range m.Needs {
		if err := l.insert(p); err != nil {
			missing = errors.Join(missing, err)
		}
	}
	if err := l.insert(m.Path); err != nil {
		return errors.Join(err, missing)
	}
	return nil
}

// Claim loads every module that claims a device or a service. How many are new
// in the kernel is returned with what went wrong.
func (l *Loader) Claim(modalias string) (int, error) {
	before := l.loaded()
	var errs error
	for _, name := range l.Index.Claims(modalias) {
		if err := l.Load(name); err != nil && !errors.Is(err, ErrUnknown) {
			errs = errors.Join(errs, err)
		}
	}
	return l.loaded() - before, errs
}

func (l *Loader) loaded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, err := range l.done {
		if err == nil {
			n++
		}
	}
	return n
}

// insert loads one file; its outcome is kept.
func (l *Loader) insert(path string) error {
	if err, tried := l.done[path]; tried {
		return err
	}
	if l.done == nil {
		l.done = make(map[string]error)
	}
	err := l.open(path)
	l.done[path] = err
	return err
}

func (l *Loader) open(path string) error {
	f, err := os.Open(filepath.Join(l.Dir, filepath.FromSlash(path)))
	if err != nil {
		return fmt.Errorf("module %s: %w", Name(path), err)
	}
	defer f.Close()
	insert := l.Insert
	if insert == nil {
		insert = func(f *os.File) error { return unix.FinitModule(int(f.Fd()), "", 0) }
	}
	if err := insert(f); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s: %w", Name(path), err)
	}
	return nil
}
