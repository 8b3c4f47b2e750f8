package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernel is where a kernel and its modules are.
type kernel struct {
	image   string
	modules string // directory such as /lib/modules/6.1.0
	version string // such as 6.1.0
}

// given is a kernel from two paths.
func given(image, modules string) (kernel, error) {
	abs, err := filepath.Abs(modules)
	if err != nil {
		return kernel{}, err
	}
	if _, err := os.Stat(image); err != nil {
		return kernel{}, err
	}
	return kernel{image: image, modules: abs, version: filepath.Base(abs)}, nil
}

// packages are Debian's packages, fetched into a directory.
type packages struct {
	cache string
	arch  string // Debian's name of the architecture
	log   io.Writer
}

// apt prepares apt-get with lists and packages of its own, for an architecture
// that need not be this machine's. What the machine has installed is not
// looked at and not changed.
func (p packages) apt(ctx context.Context, program string, args ...string) (*exec.Cmd, error) {
	state := filepath.Join(p.cache, "apt-"+p.arch)
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
			return nil, err
		}
	}
	status := filepath.Join(state, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	options := []string{
		"-q", "-o", "Dir::State=" + state, "-o", "Dir::State::status=" + status, "-o", "Dir::State::lists=" + filepath.Join(state, "lists"),
		"-o", "Dir::Cache=" + state, "-o", "Dir::Cache::archives=" + filepath.Join(state, "archives"),
		"-o", "APT::Architecture=" + p.arch, "-o", "APT::Architectures=" + p.arch, "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1",
		"-o", "Acquire::Languages=none",
	}
	cmd := exec.CommandContext(ctx, program, append(options, args...)...)
	cmd.Stderr = p.log
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd, nil
}

// update fetches the lists of packages.
func (p packages) update(ctx context.Context) error {
	cmd, err := p.apt(ctx, "apt-get", "update")
	if err != nil {
		return err
	}
	cmd.Stdout = p.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get update: %w", err)
	}
	return nil
}

var versioned = regexp.MustCompile(`(?m)^\s*Depends: (linux-image-\d\S*)$`)

// resolve is the package that a package without files stands for, such as
// linux-image-amd64 for the newest kernel.
func (p packages) resolve(ctx context.Context, name string) (string, error) {
	cmd, err := p.apt(ctx, "apt-cache", "depends", "--important", name)
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends %s: %w", name, err)
	}
	if m := versioned.FindSubmatch(out); m != nil {
		return strings.TrimSuffix(string(m[1]), ":"+p.arch), nil
	}
	return name, nil
}

// fetch is the path of the package's file in the cache.
func (p packages) fetch(ctx context.Context, name string) (string, error) {
	if err := p.update(ctx); err != nil {
		return "", err
	}
	name, err := p.resolve(ctx, name)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(p.cache, "debs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd, err := p.apt(ctx, "apt-get", "download", "--print-uris", name)
	if err != nil {
		return "", err
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("apt-get download %s: %w", name, err)
	}
	// 'URI' FILE SIZE HASH
	f := strings.Fields(string(out))
	if len(f) < 3 || f[1] != filepath.Base(f[1]) {
		return "", fmt.Errorf("apt-get download %s: unexpected answer %.200q", name, out)
	}
	file := filepath.Join(dir, f[1])
	if st, err := os.Stat(file); err == nil && fmt.Sprint(st.Size()) == f[2] {
		return file, nil
	}
	if cmd, err = p.apt(ctx, "apt-get", "download", name); err != nil {
		return "", err
	}
	cmd.Dir, cmd.Stdout = dir, p.log
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w", name, err)
	}
	if _, err := os.Stat(file); err != nil {
		return "", err
	}
	return file, nil
}

// unpack extracts what is needed of a package of a kernel, beside its file,
// once.
func (p packages) unpack(ctx context.Context, deb string) (kernel, error) {
	dir := filepath.Join(p.cache, "kernels", strings.TrimSuffix(filepath.Base(deb), ".deb"))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		part := dir + ".part"
		if err := os.RemoveAll(part); err != nil {
			return kernel{}, err
		}
		if err := extract(ctx, deb, part); err != nil {
			return kernel{}, fmt.Errorf("%s: %w", deb, err)
		}
		if err := os.Rename(part, dir); err != nil {
			return kernel{}, err
		}
	}
	return unpacked(dir)
}

// unpacked finds the kernel in the files of its package.
func unpacked(dir string) (kernel, error) {
	images, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinu[xz]-*"))
	slices.Sort(images)
	for _, image := range images {
		_, version, _ := strings.Cut(filepath.Base(image), "-")
		for _, lib := range []string{"lib", "usr/lib"} {
			modules := filepath.Join(dir, lib, "modules", version)
			if _, err := os.Stat(modules); err == nil {
				return kernel{image: image, modules: modules, version: version}, nil
			}
		}
	}
	return kernel{}, fmt.Errorf("%s: no kernel with modules in it", dir)
}

// extract writes the kernel and the modules of a package below a directory.
func extract(ctx context.Context, deb, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	unpackErr := untar(out, root)
	if unpackErr != nil {
		_, _ = io.Copy(io.Discard, out) // dpkg-deb would wait for a reader
	}
	return errors.Join(unpackErr, cmd.Wait())
}

// untar writes the regular files below boot and lib/modules.
func untar(r io.Reader, root *os.Root) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		name := filepath.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !slices.ContainsFunc([]string{"boot/", "lib/modules/", "usr/lib/modules/"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, t)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}
