package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxInfo is how many bytes of .modinfo are read; Debian's largest has 200 KB.
const maxInfo = 4 << 20

// errNoModule says that a file is not a module of a kernel.
var errNoModule = errors.New("not a kernel module")

// info is what a module says about itself.
type info struct {
	name     string
	depends  []string // names of modules, or of what is built in
	before   []string // names or aliases that should be there first, but need not
	aliases  []string
	firmware []string
}

// readInfo reads the section .modinfo of a module.
func readInfo(file []byte) (info, error) {
	var m info
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return m, fmt.Errorf("%w: %w", errNoModule, err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return m, fmt.Errorf("%w: it has no section .modinfo", errNoModule)
	}
	text, err := io.ReadAll(io.LimitReader(s.Open(), maxInfo))
	if err != nil {
		return m, fmt.Errorf("%w: .modinfo: %w", errNoModule, err)
	}
	for field := range strings.SplitSeq(string(text), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "name":
			m.name = strings.ReplaceAll(value, "-", "_")
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, d)
				}
			}
		case "softdep":
			// "pre: a b post: c"
			before := false
			for _, word := range strings.Fields(value) {
				switch {
				case strings.HasSuffix(word, ":"):
					before = word == "pre:"
				case before:
					m.before = append(m.before, word)
				}
			}
		case "alias":
			if value != "" && !strings.ContainsAny(value, " \t\n") {
				m.aliases = append(m.aliases, value)
			}
		case "firmware":
			m.firmware = append(m.firmware, value)
		}
	}
	if m.name == "" {
		return m, fmt.Errorf("%w: it does not say its name", errNoModule)
	}
	return m, nil
}
