package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"loadnode/deploy/initramfs/cpio"
)

// file is one regular file of the image, or a link.
type file struct {
	mode uint32
	data []byte
	link string
}

// image is the tree of files to be written.
type image map[string]file

// assemble puts everything together.
func assemble(agent []byte, t *tree, c chosen, k kernel) (image, error) {
	img := image{
		"init": {mode: 0o755, data: agent},
		// The kernel asks for modules by this name, and it is the same program.
		"sbin/modprobe": {link: "/init"},
	}
	base := "lib/modules/" + k.version
	for _, name := range c.names {
		data, err := t.read(name)
		if err != nil {
			return nil, err
		}
		img[base+"/"+t.path(name)] = file{mode: 0o644, data: data}
	}
	dep, alias := t.index(c)
	img[base+"/modules.dep"] = file{mode: 0o644, data: dep}
	img[base+"/modules.alias"] = file{mode: 0o644, data: alias}
	return img, nil
}

// addFirmware adds the firmware that the chosen modules name, as far as a
// directory such as /lib/firmware has it. It returns how many files.
func (img image) addFirmware(dir string, t *tree, c chosen) (int, error) {
	n := 0
	for _, name := range c.names {
		for _, fw := range t.info[name].firmware {
			if !filepath.IsLocal(fw) {
				return n, fmt.Errorf("module %s names the firmware %q", name, fw)
			}
			found := false
			for _, end := range []string{"", ".xz", ".zst"} {
				data, err := os.ReadFile(filepath.Join(dir, fw+end))
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return n, err
				}
				img["lib/firmware/"+fw+end] = file{mode: 0o644, data: data}
				found = true
			}
			if found {
				n++
			}
		}
	}
	return n, nil
}

// write writes the archive.
func (img image) write(to io.Writer) error {
	w := cpio.New(to)
	dirs := map[string]bool{}
	for _, d := range []string{"dev", "etc", "proc", "run", "sys", "tmp"} {
		dirs[d] = true
	}
	for name := range img {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	names := make([]string, 0, len(img)+len(dirs))
	for d := range dirs {
		names = append(names, d)
	}
	for name := range img {
		names = append(names, name)
	}
	slices.Sort(names) // a directory before what is in it
	for _, name := range names {
		f, ok := img[name]
		var err error
		switch {
		case !ok:
			err = w.Dir(name)
		case f.link != "":
			err = w.Link(name, f.link)
		default:
			err = w.File(name, f.mode, f.data)
		}
		if err != nil {
			return err
		}
		if name == "dev" {
			// The kernel gives its first program this one to speak on.
			if err := w.Char("dev/console", 0o600, 5, 1); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

// compress is the archive as the kernel unpacks it.
func compress(raw []byte, how string) ([]byte, error) {
	var out bytes.Buffer
	switch how {
	case "zstd":
		// One worker: the same input gives the same output. The kernel takes
		// windows of 128 MiB at most; 8 are what it needs memory for.
		z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(raw); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
	case "gzip":
		z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(raw); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("compression %q: want zstd or gzip", how)
	}
	return out.Bytes(), nil
}

// unpacks says whether a kernel unpacks archives of a compression, by the
// configuration that lies beside it; without one it is believed to.
func unpacks(image, version, how string) bool {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(image), "config-"+version))
	if err != nil {
		return true
	}
	return strings.Contains(string(text), "\nCONFIG_RD_"+strings.ToUpper(how)+"=y\n")
}
