package pxelinux

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// entry is a link that is ours, or is about to be, or was a moment ago.
type entry struct {
	Name    string    `json:"name"`
	Target  string    `json:"target"`
	Testbed string    `json:"testbed"`
	Node    string    `json:"node"`
	Job     string    `json:"job,omitempty"`
	Until   time.Time `json:"until"`
}

// same reports whether two entries are the same link, whoever wants it.
func (e entry) same(o entry) bool { return e.Name == o.Name && e.Target == o.Target }

type stateFile struct {
	Version int     `json:"version"`
	Links   []entry `json:"links"`
}

const (
	stateVersion = 1
	maxState     = 16 << 20
	maxLinks     = 1 << 17
)

// ErrState is for a state file that cannot be read: which links are ours is
// not known then.
var ErrState = errors.New("the list of boot links is not readable")

// parseState reads the list of links.
func parseState(text []byte) ([]entry, error) {
	var f stateFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if f.Version != stateVersion {
		return nil, fmt.Errorf("%w: it has version %d, this program reads %d", ErrState, f.Version, stateVersion)
	}
	if len(f.Links) > maxLinks {
		return nil, fmt.Errorf("%w: %d links, allowed are %d", ErrState, len(f.Links), maxLinks)
	}
	for _, e := range f.Links {
		image, ok := strings.CutPrefix(e.Target, "./")
		if !ok || !linkName.MatchString(e.Name) || CheckImage(image) != nil {
			return nil, fmt.Errorf("%w: it has a link %q to %q", ErrState, clip(e.Name), clip(e.Target))
		}
	}
	return f.Links, nil
}

func readState(path string) ([]entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("longer than %d bytes", maxState)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	links, err := parseState(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; look at the links of the directory, and remove this file", path, err)
	}
	return links, nil
}

// writeState replaces the list, whole and on the disk.
func writeState(path string, links []entry) (err error) {
	text, err := json.Marshal(stateFile{stateVersion, links})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".pxelinux-*")
	if err != nil {
		return fmt.Errorf("list of boot links: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("list of boot links: %w", err)
		}
	}()
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
