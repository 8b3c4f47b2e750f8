package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "initramfs:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	out, arch, name, deb, image, modules, agent, cache, firmware, shell, compression, version, extra string
	all                                                                                              bool
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("initramfs", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.out, "o", "", "`directory` for kernel and initrd (required)")
	f.StringVar(&s.arch, "arch", runtime.GOARCH, "`architecture` of the nodes: amd64 or arm64")
	f.StringVar(&s.name, "package", "", "Debian `package` of the kernel; linux-image-ARCH if nothing else is given")
	f.StringVar(&s.deb, "deb", "", "`file` of a Debian package of a kernel")
	f.StringVar(&s.image, "kernel", "", "`file` of a kernel; needs -modules")
	f.StringVar(&s.modules, "modules", "", "`directory` of its modules, such as /lib/modules/6.1.0")
	f.StringVar(&s.extra, "with", "", "`modules` to add, separated by commas")
	f.BoolVar(&s.all, "all", false, "all drivers of networks and disks, not only the default set")
	f.StringVar(&s.firmware, "firmware", "", "`directory` such as /lib/firmware: what the modules name of it is added")
	f.StringVar(&s.agent, "agent", "", "`file` of an omf-agent that was built already")
	f.StringVar(&s.shell, "shell", "", "`file` of a static busybox, for an emergency console")
	f.StringVar(&s.compression, "compression", "", "zstd or gzip; the better one that the kernel unpacks if empty")
	f.StringVar(&s.cache, "cache", "", "`directory` for packages; loadnode in the user's cache if empty")
	f.StringVar(&s.version, "version", "", "`version` that the agent says it has")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	sources := 0
	for _, v := range []string{s.name, s.deb, s.image} {
		if v != "" {
			sources++
		}
	}
	switch {
	case f.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.out == "":
		return s, errors.New("-o is required")
	case s.arch != "amd64" && s.arch != "arm64":
		return s, fmt.Errorf("-arch %q: want amd64 or arm64", s.arch)
	case sources > 1:
		return s, errors.New("a kernel comes from one of -package, -deb and -kernel")
	case (s.image == "") != (s.modules == ""):
		return s, errors.New("-kernel and -modules go together")
	}
	if sources == 0 {
		s.name = "linux-image-" + s.arch
	}
	if s.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return s, fmt.Errorf("-cache is not given and there is no cache: %w", err)
		}
		s.cache = filepath.Join(dir, "loadnode")
	}
	var err error
	s.cache, err = filepath.Abs(s.cache)
	return s, err
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	k, err := s.kernel(ctx, stderr)
	if err != nil {
		return err
	}
	agent, err := s.program(ctx, stderr)
	if err != nil {
		return err
	}
	t, err := openTree(k.modules)
	if err != nil {
		return err
	}
	c, err := t.choose(s.wanted(t))
	if err != nil {
		return err
	}
	img, err := assemble(agent, t, c, k)
	if err != nil {
		return err
	}
	firmware := 0
	if s.firmware != "" {
		if firmware, err = img.addFirmware(s.firmware, t, c); err != nil {
			return err
		}
	}
	if s.shell != "" {
		data, err := os.ReadFile(s.shell)
		if err != nil {
			return err
		}
		img["bin/busybox"] = file{mode: 0o755, data: data}
		img["bin/sh"] = file{link: "busybox"}
	}
	how := s.compression
	if how == "" {
		how = "zstd"
		if !unpacks(k.image, k.version, how) {
			how = "gzip"
		}
	}
	var raw bytes.Buffer
	if err := img.write(&raw); err != nil {
		return err
	}
	initrd, err := compress(raw.Bytes(), how)
	if err != nil {
		return err
	}
	vmlinuz, err := os.ReadFile(k.image)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"kernel": vmlinuz, "initrd": initrd} {
		if err := replace(filepath.Join(s.out, name), data); err != nil {
			return err
		}
	}
	if len(c.missing) > 0 {
		fmt.Fprintf(stdout, "not in this kernel: %s\n", strings.Join(c.missing, " "))
	}
	fmt.Fprintf(stdout, "kernel %s (%s): %.1f MB; initrd: %.1f MB with %s, %.1f MB unpacked: agent %.1f MB, %d modules, %d files of firmware\n",
		k.version, s.arch, mega(len(vmlinuz)), mega(len(initrd)), how, mega(raw.Len()), mega(len(agent)), len(c.names), firmware)
	return nil
}

// wanted are the modules that were asked for.
func (s settings) wanted(t *tree) []string {
	names := drivers()
	if s.all {
		names = append(names, t.below(everything())...)
	}
	for name := range strings.SplitSeq(s.extra, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func mega(n int) float64 { return float64(n) / 1e6 }

// replace writes a file as a whole or not at all: a boot server may be serving
// the one that is there.
func replace(name string, data []byte) error {
	part := name + ".part"
	if err := os.WriteFile(part, data, 0o644); err != nil {
		return err
	}
	return os.Rename(part, name)
}

// kernel is the kernel that was asked for.
func (s settings) kernel(ctx context.Context, log io.Writer) (kernel, error) {
	if s.image != "" {
		return given(s.image, s.modules)
	}
	p := packages{cache: s.cache, arch: s.arch, log: log}
	deb := s.deb
	if deb == "" {
		var err error
		if deb, err = p.fetch(ctx, s.name); err != nil {
			return kernel{}, err
		}
	}
	return p.unpack(ctx, deb)
}

// program is omf-agent for the architecture.
func (s settings) program(ctx context.Context, log io.Writer) ([]byte, error) {
	if s.agent != "" {
		return os.ReadFile(s.agent)
	}
	dir, err := os.MkdirTemp("", "loadnode-agent-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "omf-agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+cmp.Or(s.version, "dev"), "-o", out, "loadnode/cmd/omf-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+s.arch)
	cmd.Stderr = log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build omf-agent: %w", err)
	}
	return os.ReadFile(out)
}
