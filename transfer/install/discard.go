package install

import (
	"errors"
	"fmt"

	"loadnode/transfer/disk"
)

// checkDiscard refuses Config.Discard where it would do nothing: an installation that was asked for it would claim what
// did not happen.
func (c *Config) checkDiscard() error {
	if !c.Discard {
		return nil
	}
	if t, ok := c.Target.(disk.Discarder); !ok || !t.CanDiscard() {
		return fmt.Errorf("install: %w by this target", disk.ErrNoDiscard)
	}
	return nil
}

// discard tells the medium that n bytes of free space hold nothing.
func (in *Installer) discard(off, n int64) error {
	t, ok := in.cfg.Target.(disk.Discarder)
	if !ok {
		return &WriteError{Off: off, Len: n, Err: disk.ErrNoDiscard}
	}
	// Some devices refuse ranges that are shorter than what they discard at once: those keep what they hold.
	if err := t.Discard(off, n); err != nil && !errors.Is(err, disk.ErrNoDiscard) {
		return &WriteError{Off: off, Len: n, Err: err}
	}
	return nil
}
