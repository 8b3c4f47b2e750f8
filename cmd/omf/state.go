package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"loadnode/cmd/omf/internal/config"
	"loadnode/events"
)

// errStateInUse is wrapped by the error of a role whose state another process
// uses.
var errStateInUse = errors.New("state directory is in use")

// stateDir is the state directory of the settings.
func (a *app) stateDir() (string, error) {
	dir := a.get(config.KeyState)
	if dir == "" {
		// That of a service of systemd (StateDirectory= in systemd.exec(5)).
		dir, _, _ = strings.Cut(a.getenv("STATE_DIRECTORY"), ":")
	}
	if dir == "" {
		dir = "/var/lib/loadnode"
		if os.Geteuid() != 0 {
			if dir = a.userDir("XDG_STATE_HOME", ".local/state"); dir == "" {
				return "", usagef("no state directory: HOME is not set; name one with --state")
			}
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state directory %s: %w", dir, err)
	}
	return abs, nil
}

// lockRole takes the state of a role for this process. The lock goes with the
// process, however it ends.
func lockRole(dir, role string) (*os.File, error) {
	path := filepath.Join(dir, role+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state of the role %s: %w", role, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := "another process"
		if b, rerr := os.ReadFile(path); rerr == nil && len(b) < 32 && digits(strings.TrimSpace(string(b))) {
			holder = "process " + strings.TrimSpace(string(b))
		}
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s runs the role %s on %s", errStateInUse, holder, role, dir)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Whose it is, for the error of the next one.
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(fmt.Sprintln(os.Getpid())), 0)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return f, nil
}

// writeCredential keeps a credential where its owner can read it, whole or
// not at all.
func writeCredential(path string, c events.Credential) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".credential-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
