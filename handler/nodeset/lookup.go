package nodeset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// CheckTopologyName reports whether a name can be looked up: words of
// letters, digits, "." "_" "-" between single colons, none of them "." or
// "..". No such name leaves the directory it is looked up in.
func CheckTopologyName(name string) error {
	if name == "" || len(name) > maxWord {
		return fmt.Errorf("the name of a topology has 1 to %d bytes, not %d", maxWord, len(name))
	}
	for _, part := range strings.Split(name, ":") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%s: the name of a topology is words with a colon between them, system:topo:all", clip(name))
		}
		for i := 0; i < len(part); i++ {
			if c := part[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
				return fmt.Errorf("%s: the name of a topology has no %q", clip(name), firstRune(part[i:]))
			}
		}
	}
	return nil
}

// TopologyFiles lists where OMF looks for the topology a:b:c, in order: a_b_c
// in the current directory, a/b/c in the repository, then both with .rb.
func TopologyFiles(name string) []string {
	flat := strings.ReplaceAll(name, ":", "_")
	deep := path.Join(strings.Split(name, ":")...)
	if flat == deep {
		return []string{flat, flat + ".rb"}
	}
	return []string{flat, deep, flat + ".rb", deep + ".rb"}
}

// FindTopology reads the file of a topology from the first directory that
// has it. Every directory is searched for both spellings; OMF's current
// directory comes first, then its repositories. The error is fs.ErrNotExist
// where no directory has the file, ErrTooLarge for a file above MaxFile.
func FindTopology(name string, dirs ...fs.FS) ([]byte, error) {
	if err := CheckTopologyName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTopology, err)
	}
	for _, file := range TopologyFiles(name) {
		for _, dir := range dirs {
			text, err := read(dir, file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return text, err
		}
	}
	return nil, fs.ErrNotExist
}

func read(dir fs.FS, name string) ([]byte, error) {
	// a/b may be a directory beside the file a/b.rb, and opening a pipe would
	// wait for a writer.
	info, err := fs.Stat(dir, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s: %w: allowed are %d bytes", name, ErrTooLarge, MaxFile)
	}
	return text, nil
}
