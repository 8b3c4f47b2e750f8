package pxelinux

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultLifetime is how long a link that was set by hand stays (omf-legacy
// b.4, linkLifetime of OMF 4).
const DefaultLifetime = 1800 * time.Second

// Config says where the links are.
type Config struct {
	Dir   string // configuration directory of the TFTP tree, such as /tftpboot/pxelinux.cfg
	State string // file with the list of our links
}

// Tree is the directory with the links. It may be used from several
// goroutines.
type Tree struct {
	cfg  Config
	root *os.Root

	mu    sync.Mutex
	links []entry // as the state file has them
}

// Open opens the directory and reads which links are ours. It removes the
// remains of links that were half made, and nothing else.
func Open(cfg Config) (*Tree, error) {
	links, err := readState(cfg.State)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("directory of boot links: %w", err)
	}
	t := &Tree{cfg: cfg, root: root, links: links}
	if err := t.tidy(); err != nil {
		root.Close()
		return nil, fmt.Errorf("directory of boot links: %w", err)
	}
	return t, nil
}

// Close gives the directory back; links stay.
func (t *Tree) Close() error { return t.root.Close() }

// halfMade are the names under which links are made.
var halfMade = regexp.MustCompile(`^\.loadnode-[0-9A-Z]{26}$`)

func (t *Tree) tidy() error {
	dir, err := t.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.ReadDir(1000)
		for _, n := range names {
			if halfMade.MatchString(n.Name()) && n.Type()&fs.ModeSymlink != 0 {
				if err := t.root.Remove(n.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
		}
		if len(names) == 0 || err != nil {
			return nil
		}
	}
}

// Outcome is what became of a link.
type Outcome struct {
	Link
	Names []string // of the links
	Note  string   // what was replaced
	Err   error
}

// Keep makes the links of jobs those that are wanted: it sets what is missing
// and removes every other link of ours, except those by hand whose time is not
// over. The outcomes are those of wanted, in order; the error is of links that
// could not be removed, which the next call tries again.
func (t *Tree) Keep(now time.Time, wanted []Link) ([]Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	busy := map[[2]string]bool{}
	for _, l := range wanted {
		busy[[2]string{l.Testbed, l.Node}] = true
	}
	var desired []entry
	for _, e := range t.links {
		if e.Job == "" && now.Before(e.Until) && !busy[[2]string{e.Testbed, e.Node}] {
			desired = append(desired, e)
		}
	}
	return t.apply(wanted, desired)
}

// Set sets links by hand until their time is over. Those of jobs stay.
func (t *Tree) Set(links []Link) ([]Outcome, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.apply(links, t.others(links))
}

// Clear removes the links of nodes, whoever wanted them.
func (t *Tree) Clear(links []Link) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.apply(nil, t.others(links))
	return err
}

// others are the entries of all other nodes.
func (t *Tree) others(links []Link) []entry {
	nodes := map[[2]string]bool{}
	for _, l := range links {
		nodes[[2]string{l.Testbed, l.Node}] = true
	}
	var out []entry
	for _, e := range t.links {
		if !nodes[[2]string{e.Testbed, e.Node}] {
			out = append(out, e)
		}
	}
	return out
}

// Status returns what is set for a node, ok false if nothing is.
func (t *Tree) Status(testbed, node string) (o Outcome, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.links {
		if e.Testbed != testbed || e.Node != node {
			continue
		}
		if at, err := t.root.Readlink(e.Name); err != nil || at != e.Target {
			continue // somebody else has removed or replaced it
		}
		o.Link = Link{Testbed: testbed, Node: node, Image: strings.TrimPrefix(e.Target, "./"), Job: e.Job, Until: e.Until}
		o.Names = append(o.Names, e.Name)
	}
	return o, len(o.Names) > 0
}

// Next returns the end of the next link, ok false if there is none.
func (t *Tree) Next() (next time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.links {
		if e.Job == "" && (!ok || e.Until.Before(next)) {
			next, ok = e.Until, true
		}
	}
	return next, ok
}

// apply makes the links those of set and of keep; t.mu is held. What is about
// to be made is in the list before, what is removed stays in it until after.
func (t *Tree) apply(set []Link, keep []entry) ([]Outcome, error) {
	out := make([]Outcome, len(set))
	var desired []entry
	taken := map[string]string{}
	for i, l := range set {
		out[i] = Outcome{Link: l}
		entries, err := t.entries(l)
		for _, e := range entries {
			if other, ok := taken[e.Name]; ok && err == nil {
				err = fmt.Errorf("%w: %s is that of %s as well", ErrForeign, e.Name, other)
			}
		}
		if out[i].Err = err; err != nil {
			continue
		}
		for _, e := range entries {
			taken[e.Name] = l.Node
			out[i].Names = append(out[i].Names, e.Name)
		}
		desired = append(desired, entries...)
	}
	for _, e := range keep {
		if taken[e.Name] == "" {
			desired = append(desired, e)
		}
	}
	if err := t.announce(desired); err != nil {
		for i := range out {
			out[i].Err = errors.Join(out[i].Err, err)
		}
		return out, err
	}
	lost := map[string]bool{} // names that stay somebody else's
	for i := range out {
		if out[i].Err != nil {
			continue
		}
		for _, name := range out[i].Names {
			note, err := t.link(name, "./"+out[i].Image)
			if note != "" {
				out[i].Note = note
			}
			if err != nil {
				out[i].Err = errors.Join(out[i].Err, err)
				lost[name] = errors.Is(err, ErrForeign)
			}
		}
	}
	var left []entry
	var errs []error
	for _, e := range t.links {
		wanted := slices.ContainsFunc(desired, e.same)
		switch {
		case lost[e.Name] && wanted:
		case wanted:
			left = append(left, e)
		default:
			if err := t.unlink(e); err != nil {
				errs = append(errs, err)
				left = append(left, e)
			}
		}
	}
	if err := t.write(left); err != nil {
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// entries are the links that a flag is made of.
func (t *Tree) entries(l Link) ([]entry, error) {
	if err := CheckImage(l.Image); err != nil {
		return nil, err
	}
	names := l.names()
	if len(names) == 0 {
		return nil, ErrAddress
	}
	if st, err := t.root.Stat(l.Image); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s has no file %s", ErrImage, t.cfg.Dir, l.Image)
	}
	var out []entry
	for _, n := range names {
		out = append(out, entry{n, "./" + l.Image, l.Testbed, l.Node, l.Job, l.Until.UTC().Round(0)})
	}
	return out, nil
}

// announce puts what is about to be made into the list.
func (t *Tree) announce(desired []entry) error {
	links := slices.Clone(t.links)
	at := map[[2]string]int{}
	for i, e := range links {
		at[[2]string{e.Name, e.Target}] = i
	}
	for _, e := range desired {
		if i, ok := at[[2]string{e.Name, e.Target}]; ok {
			links[i] = e
			continue
		}
		links = append(links, e)
	}
	return t.write(links)
}

// write replaces the list if it is another one.
func (t *Tree) write(links []entry) error {
	if slices.Equal(links, t.links) {
		return nil
	}
	if err := writeState(t.cfg.State, links); err != nil {
		return err
	}
	t.links = links
	return nil
}

// ours reports whether the list has a link.
func (t *Tree) ours(name, target string) bool {
	return slices.ContainsFunc(t.links, func(e entry) bool { return e.Name == name && e.Target == target })
}

// link makes one link, or replaces the one that is there.
func (t *Tree) link(name, target string) (note string, err error) {
	st, err := t.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", fmt.Errorf("boot link %s: %w", name, err)
	case st.Mode()&fs.ModeSymlink == 0:
		return "", fmt.Errorf("boot link: %w: %s in %s is no link but %s; it is left", ErrForeign, name, t.cfg.Dir, kind(st.Mode()))
	default:
		at, err := t.root.Readlink(name)
		if err != nil {
			return "", fmt.Errorf("boot link %s: %w", name, err)
		}
		if at == target {
			return "", nil
		}
		if !t.ours(name, at) {
			image, plain := strings.CutPrefix(at, "./")
			if !plain || CheckImage(image) != nil {
				return "", fmt.Errorf("boot link: %w: %s in %s leads to %s; it is left", ErrForeign, name, t.cfg.Dir, clip(at))
			}
			note = fmt.Sprintf("replaced the link %s to %s, which somebody else had made", name, at)
		}
	}
	temp := ".loadnode-" + rand.Text()
	if err := t.root.Symlink(target, temp); err != nil {
		return "", fmt.Errorf("boot link %s: %w", name, err)
	}
	if err := t.root.Rename(temp, name); err != nil {
		_ = t.root.Remove(temp)
		return "", fmt.Errorf("boot link %s: %w", name, err)
	}
	return note, nil
}

// unlink removes a link if it is still the one that was made.
func (t *Tree) unlink(e entry) error {
	at, err := t.root.Readlink(e.Name)
	if err != nil {
		if _, statErr := t.root.Lstat(e.Name); errors.Is(statErr, fs.ErrNotExist) || statErr == nil {
			return nil // gone, or no link any more
		}
		return fmt.Errorf("boot link %s: %w", e.Name, err)
	}
	if at != e.Target {
		return nil
	}
	if err := t.root.Remove(e.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("boot link %s: %w", e.Name, err)
	}
	return nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "a file"
	case m.IsDir():
		return "a directory"
	}
	return "something else"
}
