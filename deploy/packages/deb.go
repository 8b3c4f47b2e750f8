package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5" // of dpkg's list of files
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// file is one in a package.
type file struct {
	path string // without the first slash; below DEBIAN/ for the control part
	mode int64
	data []byte
}

// directory says that a file stands for an empty directory.
const directory = 0o40000

// writeDeb writes a package as deb(5) describes it. Paths are sorted and
// everything belongs to root at one time, so that the same files give the same
// bytes.
func writeDeb(w io.Writer, control, data []file, when time.Time) error {
	var sums bytes.Buffer
	for _, f := range sorted(data) {
		if f.mode&directory == 0 {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.path)
		}
	}
	control = append(slices.Clone(control), file{"md5sums", 0o644, sums.Bytes()})
	members := []file{{path: "debian-binary", data: []byte("2.0\n")}}
	for name, files := range map[string][]file{"control.tar.gz": control, "data.tar.gz": data} {
		b, err := tarball(files, when)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		members = append(members, file{path: name, data: b})
	}
	slices.SortFunc(members[1:], func(a, b file) int { return strings.Compare(a.path, b.path) })
	if _, err := io.WriteString(w, "!<arch>\n"); err != nil {
		return err
	}
	for _, m := range members {
		head := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.path, when.Unix(), 0, 0, "100644", len(m.data))
		pad := ""
		if len(m.data)%2 == 1 {
			pad = "\n"
		}
		if _, err := fmt.Fprintf(w, "%s%s%s", head, m.data, pad); err != nil {
			return err
		}
	}
	return nil
}

func sorted(files []file) []file {
	return slices.SortedFunc(slices.Values(files), func(a, b file) int { return strings.Compare(a.path, b.path) })
}

// tarball packs files and the directories above them.
func tarball(files []file, when time.Time) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	made := map[string]bool{}
	add := func(name string, kind byte, mode int64, data []byte) error {
		h := &tar.Header{
			Format: tar.FormatGNU, Name: name, Typeflag: kind, Mode: mode &^ directory, Size: int64(len(data)),
			ModTime: when, Uname: "root", Gname: "root",
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := t.Write(data)
		return err
	}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if dir == "." {
			return add("./", tar.TypeDir, 0o755, nil)
		}
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		return add("./"+dir+"/", tar.TypeDir, 0o755, nil)
	}
	for _, f := range sorted(files) {
		dir := path.Dir(f.path)
		if f.mode&directory != 0 {
			dir = f.path
		}
		if err := mkdir(dir); err != nil {
			return nil, err
		}
		if f.mode&directory == 0 {
			if err := add("./"+f.path, tar.TypeReg, f.mode, f.data); err != nil {
				return nil, err
			}
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// gzipped is data as gzip -9n makes it.
func gzipped(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
