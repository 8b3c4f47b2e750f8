package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"loadnode/agent/initramfs/module"
)

// tree is the modules of a kernel: those of its directory by name.
type tree struct {
	dir     string
	files   map[string]string // name → path relative to dir, with a compression's ending
	info    map[string]info   // of those that were looked at
	builtin map[string]bool   // names
}

// openTree lists the modules below a directory such as /lib/modules/6.1.0.
func openTree(dir string) (*tree, error) {
	t := &tree{dir: dir, files: make(map[string]string), info: make(map[string]info), builtin: make(map[string]bool)}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name, _ := plain(d.Name()); strings.HasSuffix(name, ".ko") {
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			t.files[module.Name(name)] = filepath.ToSlash(rel)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		t.builtin[module.Name(strings.TrimSpace(line))] = true
	}
	return t, nil
}

// plain is the name of a file without the ending of its compression, and that
// ending.
func plain(name string) (string, string) {
	for _, end := range []string{".xz", ".zst", ".gz"} {
		if base, ok := strings.CutSuffix(name, end); ok {
			return base, end
		}
	}
	return name, ""
}

// maxModule is the size of one module without compression.
const maxModule = 64 << 20

// read is the content of a module without compression.
func (t *tree) read(name string) ([]byte, error) {
	file := filepath.Join(t.dir, filepath.FromSlash(t.files[name]))
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r io.Reader
	switch _, end := plain(file); end {
	case "":
		return raw, nil
	case ".gz":
		if r, err = gzip.NewReader(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	case ".zst":
		z, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		defer z.Close()
		r = z
	case ".xz":
		cmd := exec.Command("xz", "-dc")
		cmd.Stdin = bytes.NewReader(raw)
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: xz (package xz-utils): %w", file, err)
		}
		return out, nil
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && len(out) > maxModule {
		err = fmt.Errorf("more than %d bytes", maxModule)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

// look is what a module says about itself.
func (t *tree) look(name string) (info, error) {
	if m, ok := t.info[name]; ok {
		return m, nil
	}
	data, err := t.read(name)
	if err != nil {
		return info{}, err
	}
	m, err := readInfo(data)
	if err != nil {
		return info{}, fmt.Errorf("%s: %w", t.files[name], err)
	}
	t.info[name] = m
	return m, nil
}

// chosen is what goes into the image: modules in the order of their names.
type chosen struct {
	names   []string
	needs   map[string][]string // in the order of loading, all of them
	missing []string            // asked for, and neither there nor built in
}

// choose takes modules with all that they need.
func (t *tree) choose(wanted []string) (chosen, error) {
	c := chosen{needs: make(map[string][]string)}
	for _, w := range wanted {
		name := module.Name(w)
		if _, ok := t.files[name]; !ok {
			if !t.builtin[name] {
				c.missing = append(c.missing, w)
			}
			continue
		}
		if err := t.add(&c, name, nil); err != nil {
			return c, err
		}
	}
	for name := range c.needs {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	return c, nil
}

// add takes one module. above are those that need it: a circle would end
// nowhere.
func (t *tree) add(c *chosen, name string, above []string) error {
	if _, ok := c.needs[name]; ok {
		return nil
	}
	if slices.Contains(above, name) {
		return fmt.Errorf("modules need each other in a circle: %s", strings.Join(append(above, name), " → "))
	}
	m, err := t.look(name)
	if err != nil {
		return err
	}
	above = append(slices.Clone(above), name)
	var all []string
	for _, d := range append(slices.Clone(m.before), m.depends...) {
		d = module.Name(d)
		if _, ok := t.files[d]; !ok {
			if slices.Contains(m.depends, d) && !t.builtin[d] {
				return fmt.Errorf("%s needs the module %s, which is not there", name, d)
			}
			continue
		}
		if err := t.add(c, d, above); err != nil {
			return err
		}
		for _, n := range append(slices.Clone(c.needs[d]), d) {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	c.needs[name] = all
	return nil
}

// below are the names of the modules in some directories of the kernel's source.
func (t *tree) below(dirs []string) []string {
	var names []string
	for name, file := range t.files {
		if slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(file, "kernel/"+d+"/") }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// path is where a module lies in the image, below the directory of modules.
func (t *tree) path(name string) string {
	p, _ := plain(t.files[name])
	return p
}

// index writes modules.dep and modules.alias for what was chosen, in the form
// of depmod(8); what should be loaded before counts as needed.
func (t *tree) index(c chosen) (dep, alias []byte) {
	var d, a bytes.Buffer
	for _, name := range c.names {
		fmt.Fprintf(&d, "%s:", t.path(name))
		for _, n := range slices.Backward(c.needs[name]) {
			fmt.Fprintf(&d, " %s", t.path(n))
		}
		d.WriteByte('\n')
		for _, claim := range t.info[name].aliases {
			fmt.Fprintf(&a, "alias %s %s\n", claim, name)
		}
	}
	return d.Bytes(), a.Bytes()
}
