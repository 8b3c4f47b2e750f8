package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockStore takes the store for this process. The lock is that of the kernel:
// it ends with the process, however that ends. The file says who has it.
func lockStore(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("embedded bus: lock %s: %w", path, err)
		}
		who, _ := io.ReadAll(io.LimitReader(f, 256))
		return nil, fmt.Errorf("embedded bus: %w: %s is held by %s; stop that one or choose another store", ErrStoreInUse, dir, strings.TrimSpace(string(who)))
	}
	text := fmt.Sprintf("process %d\n", os.Getpid())
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		f.Close()
		return nil, fmt.Errorf("embedded bus: lock %s: %w", path, err)
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
