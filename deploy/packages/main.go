package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tools are the drop-in commands and others whose manual page is made of their
// usage text, with the section of the page.
var tools = map[string]int{"frisbee": 1, "frisbeed": 1, "imagezip": 1, "imageunzip": 1, "omf-agent": 8}

// licenses are files of a module that must go with its code.
var licenses = regexp.MustCompile(`(?i)^(licen[cs]e|notice|copying)`)

// build is one run.
type build struct {
	root, out, work string
	version         string // of the programs
	debian          string // of the packages
	when            time.Time
}

func main() {
	out := flag.String("o", "bin/packages", "`directory` for the packages")
	archs := flag.String("arch", "amd64,arm64", "`architectures`, separated by commas")
	version := flag.String("version", "", "`version` as git describe says it; asked of git if empty")
	flag.Parse()
	if err := run(*out, strings.Split(*archs, ","), *version); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

func run(out string, archs []string, version string) error {
	root, err := output(nil, "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "loadnode-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &build{root: root, out: out, work: work, version: version}
	if b.version == "" {
		if b.version, err = output(nil, "git", "-C", root, "describe", "--tags", "--always", "--dirty"); err != nil {
			return err
		}
	}
	if err := b.date(); err != nil {
		return err
	}
	if b.debian, err = debianVersion(b.version, b.when); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	// The programs of this machine tell what the pages say.
	for _, arch := range slices.Compact(slices.Sorted(slices.Values(append(archs, runtime.GOARCH)))) {
		if err := b.programs(arch); err != nil {
			return err
		}
	}
	if err := b.documents(); err != nil {
		return err
	}
	for _, p := range layout() {
		for i, arch := range archs {
			if p.any && i > 0 {
				break
			}
			if err := b.pack(p, arch); err != nil {
				return err
			}
		}
	}
	return nil
}

// date is when the source was made.
func (b *build) date() error {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		var err error
		if text, err = output(nil, "git", "-C", b.root, "log", "-1", "--format=%ct"); err != nil {
			return err
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds", text)
	}
	b.when = time.Unix(seconds, 0).UTC()
	return nil
}

// programs builds all commands for an architecture, and notes whose code they
// hold.
func (b *build) programs(arch string) error {
	dir := filepath.Join(b.work, arch)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}
	args := []string{"build", "-C", b.root, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=" + b.version, "-o", dir + "/", "./cmd/omf"}
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		args = append(args, "./cmd/"+name)
	}
	if _, err := output(env, "go", args...); err != nil {
		return err
	}
	list, err := output(env, "go", "list", "-C", b.root, "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", "./cmd/...")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintln(&text, "The programs of loadnode hold code of these modules, under their licenses.")
	for _, line := range slices.Compact(slices.Sorted(strings.Lines(list + "\n"))) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		entries, err := os.ReadDir(f[2])
		if err != nil {
			return err
		}
		files := slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !licenses.MatchString(e.Name()) })
		if len(files) == 0 {
			return fmt.Errorf("module %s has no license in %s", f[0], f[2])
		}
		for _, e := range files {
			license, err := os.ReadFile(filepath.Join(f[2], e.Name()))
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "\n== %s %s: %s\n\n%s\n", f[0], f[1], e.Name(), license)
		}
	}
	// The Go runtime and library are in every program.
	goroot, err := output(nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(goroot, "LICENSE"))
	if err != nil {
		return err
	}
	fmt.Fprintf(&text, "\n== Go %s: LICENSE\n\n%s\n", runtime.Version(), license)
	return os.WriteFile(filepath.Join(dir, "third-party.txt"), text.Bytes(), 0o644)
}

// documents makes what the programs say of themselves: manual pages and
// completions.
func (b *build) documents() error {
	dir := filepath.Join(b.work, "build")
	for _, d := range []string{"man", "completion"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	program := func(name string) string { return filepath.Join(b.work, runtime.GOARCH, name) }
	// Nothing of the machine that builds may get into it.
	env := []string{"HOME=" + b.work, "LOADNODE_CONFIG=/dev/null"}
	args := []string{"man", filepath.Join(dir, "man"), "--date", b.when.Format("2006-01-02")}
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		cmd := exec.Command(program(name), "-h")
		cmd.Env = env
		usage, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s -h: %w", name, err)
		}
		file := filepath.Join(b.work, name+".usage")
		if err := os.WriteFile(file, usage, 0o600); err != nil {
			return err
		}
		args = append(args, "--usage", fmt.Sprintf("%s.%d=%s", name, tools[name], file))
	}
	if _, err := output(env, program("omf"), args...); err != nil {
		return err
	}
	inventory, err := output(nil, "go", "doc", "-C", b.root, "./handler/inventory")
	if err != nil {
		return err
	}
	made := map[string]string{
		"inventory.txt": inventory + "\n",
		"changelog": fmt.Sprintf("loadnode (%s) stable; urgency=medium\n\n  * Built from %s; what changed is in the log of its source.\n\n -- loadnode maintainers <maintainers@loadnode.invalid>  %s\n",
			b.debian, b.version, b.when.Format(time.RFC1123Z)),
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := output(env, program("omf"), "completion", shell)
		if err != nil {
			return err
		}
		made["completion/"+shell] = script + "\n"
	}
	for name, text := range made {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pack writes one package and prints its name.
func (b *build) pack(p pkg, arch string) error {
	data, err := p.files(func(pattern string) string {
		top, rest, _ := strings.Cut(pattern, "/")
		switch top {
		case "PROGRAMS", "NOTICES":
			return filepath.Join(b.work, arch, rest)
		case "BUILD":
			return filepath.Join(b.work, "build", rest)
		}
		return filepath.Join(b.root, pattern)
	})
	if err != nil {
		return err
	}
	if p.any {
		arch = "all"
	}
	control, err := p.control(b.root, b.debian, arch, data)
	if err != nil {
		return err
	}
	name := filepath.Join(b.out, fmt.Sprintf("%s_%s_%s.deb", p.name, b.debian, arch))
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	err = writeDeb(f, control, data, b.when)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}

// output runs a program and returns what it printed, without the last newline.
// Env is added to the environment.
func output(env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), args[0], err, stderr.String())
	}
	return strings.TrimRight(string(out), "\n"), nil
}
