package module

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Bounds of the two files; Debian's largest kernel has 4300 modules, 36000
// aliases and lines of 2 KB.
const (
	maxLine    = 64 << 10 // bytes
	maxModules = 1 << 16
	maxAliases = 1 << 20
)

// ErrSyntax is wrapped by everything that is wrong with the text of an index.
var ErrSyntax = errors.New("not an index of modules")

// Module is one module of the kernel.
type Module struct {
	Name string // as the kernel has it, with "_" for "-"
	Path string // of its file, relative to the directory of the kernel's modules
	// Needs are the paths of the modules that go before it, in the order of
	// loading.
	Needs []string
}

// Index finds modules by name and by what they claim. The zero Index is empty.
type Index struct {
	modules  map[string]Module
	exact    map[string][]string  // alias without wildcards → names
	patterns map[string][]pattern // by the text before the first ":"
	aliases  int
}

type pattern struct{ glob, name string }

// Name is the kernel's name of a module: that of its file without directory
// and endings, with "_" for "-".
func Name(file string) string {
	base := path.Base(file)
	if i := strings.Index(base, ".ko"); i >= 0 {
		base = base[:i]
	}
	return strings.ReplaceAll(base, "-", "_")
}

// ReadDep adds the modules of a modules.dep: lines "FILE: FILE…", what a
// module needs from last to first in the order of loading.
func (x *Index) ReadDep(r io.Reader) error {
	return lines(r, "modules.dep", func(line string) error {
		file, rest, ok := strings.Cut(line, ":")
		if !ok || !local(file) {
			return fmt.Errorf("%w: want FILE: FILE…", ErrSyntax)
		}
		needs := strings.Fields(rest)
		for _, n := range needs {
			if !local(n) {
				return fmt.Errorf("%w: %.100q is no path below the directory of modules", ErrSyntax, n)
			}
		}
		slices.Reverse(needs)
		if len(x.modules) >= maxModules {
			return fmt.Errorf("%w: more than %d modules", ErrSyntax, maxModules)
		}
		if x.modules == nil {
			x.modules = make(map[string]Module)
		}
		name := Name(file)
		x.modules[name] = Module{Name: name, Path: file, Needs: needs}
		return nil
	})
}

// local says whether a path stays below the directory it is relative to.
func local(p string) bool {
	return p != "" && p[0] != '/' && path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

// ReadAlias adds the aliases of a modules.alias: lines "alias PATTERN MODULE".
func (x *Index) ReadAlias(r io.Reader) error {
	return lines(r, "modules.alias", func(line string) error {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "alias" {
			return fmt.Errorf("%w: want alias PATTERN MODULE", ErrSyntax)
		}
		if x.aliases++; x.aliases > maxAliases {
			return fmt.Errorf("%w: more than %d aliases", ErrSyntax, maxAliases)
		}
		x.alias(f[1], Name(f[2]))
		return nil
	})
}

func (x *Index) alias(glob, name string) {
	if !strings.ContainsAny(glob, `*?[\`) {
		if x.exact == nil {
			x.exact = make(map[string][]string)
		}
		x.exact[glob] = append(x.exact[glob], name)
		return
	}
	if x.patterns == nil {
		x.patterns = make(map[string][]pattern)
	}
	key := bus(glob)
	if strings.ContainsAny(key, `*?[\`) {
		key = ""
	}
	x.patterns[key] = append(x.patterns[key], pattern{glob, name})
}

// bus is what an alias begins with: "pci" of "pci:v00008086d…".
func bus(alias string) string {
	before, _, ok := strings.Cut(alias, ":")
	if !ok {
		return ""
	}
	return before
}

// Lookup is the module of a name, in either spelling.
func (x *Index) Lookup(name string) (Module, bool) {
	m, ok := x.modules[Name(name)]
	return m, ok
}

// Len is how many modules there are.
func (x *Index) Len() int { return len(x.modules) }

// Claims are the names of the modules that say they are for a device or a
// service (its modalias), in order and once each. Not all of them need to be
// in the index.
func (x *Index) Claims(modalias string) []string {
	names := slices.Clone(x.exact[modalias])
	keys := []string{""}
	if b := bus(modalias); b != "" {
		keys = append(keys, b)
	}
	for _, key := range keys {
		for _, p := range x.patterns[key] {
			if match(p.glob, modalias) {
				names = append(names, p.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lines calls f for each line that is not empty and no comment.
func lines(r io.Reader, what string, f func(line string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	n := 0
	for s.Scan() {
		n++
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("%s, line %d: %w", what, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s, line %d: %w", what, n+1, err)
	}
	return nil
}
