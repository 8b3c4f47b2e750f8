package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"loadnode/handler/inventory"
)

// Limits of what is read.
const (
	MaxFile  = 4 << 20 // bytes of one file
	MaxFiles = 64

	maxDepth = 8       // of mappings and lists in one another
	maxNodes = 1 << 18 // keys and values of one file
)

// ErrInput is for files that cannot be understood; the text says where.
var ErrInput = errors.New("cannot import")

// File is an input.
type File struct {
	Name string
	Text []byte
}

// Entry is one thing that a file says and what became of it.
type Entry struct {
	File  string `json:"file"`
	Line  int    `json:"line"`
	What  string `json:"what"`
	Value string `json:"value,omitempty"`
	To    string `json:"to,omitempty"`  // where it is now
	Why   string `json:"why,omitempty"` // it was left out, or what to know about it
}

// Result is what came of the files. Config is never empty; Inventory is where
// no nodes are known.
type Result struct {
	Testbed           string
	Config, Inventory []byte
	Taken, Left       []Entry
}

// Config says what to import.
type Config struct {
	Files   []File
	Testbed string // empty: the only one, or default
	// InventoryPath is where the inventory will be, for the settings.
	InventoryPath string
	// Addresses is the first half of the control network, such as 10.18, where
	// node [x,y] has 10.18.x.y (omf-legacy a.5). Empty: addresses are not known.
	Addresses string
}

type importer struct {
	cfg         Config
	testbed     string
	found       []setting
	beds        []*bed
	taken, left []Entry
}

// Convert reads the files. The result is accepted by the inventory and the
// settings of this program, or there is an error.
func Convert(cfg Config) (Result, error) {
	if len(cfg.Files) > MaxFiles {
		return Result{}, fmt.Errorf("%w: %d files, allowed are %d", ErrInput, len(cfg.Files), MaxFiles)
	}
	if cfg.Addresses != "" {
		ip, err := netip.ParseAddr(cfg.Addresses + ".0.1")
		if err != nil || !ip.Is4() || ip.IsMulticast() {
			return Result{}, fmt.Errorf("%w: addresses %q: want the first half of a network, such as 10.18", ErrInput, clip(cfg.Addresses))
		}
	}
	im := &importer{cfg: cfg}
	var later []func() error
	for _, f := range cfg.Files {
		if len(f.Text) > MaxFile {
			return Result{}, fmt.Errorf("%w: %s: more than %d bytes", ErrInput, f.Name, MaxFile)
		}
		var err error
		switch kindOf(f) {
		case kindTopology:
			later = append(later, func() error { return im.topology(f) })
		case kindRhubarbe:
			later = append(later, func() error { return im.rhubarbe(f) })
		default:
			err = im.services(f)
		}
		if err != nil {
			return Result{}, err
		}
	}
	if err := im.choose(); err != nil {
		return Result{}, err
	}
	for _, read := range later {
		if err := read(); err != nil {
			return Result{}, err
		}
	}
	r := Result{Testbed: im.testbed, Inventory: im.inventory()}
	if len(r.Inventory) > 0 {
		if _, err := inventory.Parse(r.Inventory); err != nil {
			return Result{}, fmt.Errorf("%w: what the files say makes no inventory: %w", ErrInput, err)
		}
	}
	r.Config = im.settings(len(r.Inventory) > 0)
	r.Taken, r.Left = im.taken, im.left
	return r, nil
}

const (
	kindServices = iota
	kindTopology
	kindRhubarbe
)

var (
	comments   = regexp.MustCompile(`^(?:\s*#[^\n]*(?:\n|$)|\s+)*`)
	definition = regexp.MustCompile(`^defTopology\b`)
)

func kindOf(f File) int {
	text := f.Text[len(comments.Find(f.Text)):]
	switch {
	case strings.HasSuffix(f.Name, ".rb"), definition.Match(text):
		return kindTopology
	case bytes.HasPrefix(text, []byte("[")):
		return kindRhubarbe
	}
	return kindServices
}

func (im *importer) take(e Entry, to, note string) {
	e.To, e.Why = to, note
	im.taken = append(im.taken, e)
}

func (im *importer) leave(e Entry, why string) {
	e.Why = why
	im.left = append(im.left, e)
}

// choose settles which testbed the settings are for.
func (im *importer) choose() error {
	var all []string
	for _, s := range im.found {
		if s.testbed != "" && !slices.Contains(all, s.testbed) {
			all = append(all, s.testbed)
		}
	}
	switch im.testbed = im.cfg.Testbed; {
	case im.testbed != "":
	case len(all) == 1:
		im.testbed = all[0]
	case len(all) == 0 || slices.Contains(all, inventory.DefaultTestbed):
		im.testbed = inventory.DefaultTestbed
	default:
		return fmt.Errorf("%w: the files configure the testbeds %s; choose one with --testbed", ErrInput, clip(strings.Join(all, ", ")))
	}
	return nil
}

// object parses text as one mapping or list; plain JSON is YAML too.
func object(f File) ([]byte, error) {
	if !json.Valid(f.Text) {
		return nil, fmt.Errorf("%w: %s: it begins like a list of JSON but is none", ErrInput, f.Name)
	}
	// Strings of JSON hold no tabs, and YAML does not like them elsewhere.
	return bytes.ReplaceAll(f.Text, []byte("\t"), []byte(" ")), nil
}

func clip(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
