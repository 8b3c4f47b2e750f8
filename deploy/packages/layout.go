package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// entry puts files of the source tree, or made by the build, into a package.
type entry struct {
	from string // a pattern; below BUILD, PROGRAMS or NOTICES what the build made
	to   string // where; a last slash: under its own name
	mode int64
	gzip bool
}

// pkg is a package.
type pkg struct {
	name    string
	source  string   // directory of control and the scripts
	any     bool     // the same for all architectures
	entries []entry  // what it holds
	conf    []string // which of that administrators edit
}

const doc = "usr/share/doc/"

// layout is what the packages hold.
func layout() []pkg {
	list := []pkg{
		{name: "loadnode", source: "deploy/packages/cli", entries: []entry{
			{from: "PROGRAMS/omf", to: "usr/bin/", mode: 0o755},
			{from: "PROGRAMS/frisbee", to: "usr/bin/", mode: 0o755},
			{from: "PROGRAMS/frisbeed", to: "usr/bin/", mode: 0o755},
			{from: "PROGRAMS/imagezip", to: "usr/bin/", mode: 0o755},
			{from: "PROGRAMS/imageunzip", to: "usr/bin/", mode: 0o755},
			{from: "BUILD/man/*.1", to: "usr/share/man/man1/", gzip: true},
			{from: "BUILD/man/*.5", to: "usr/share/man/man5/", gzip: true},
			{from: "BUILD/completion/bash", to: "usr/share/bash-completion/completions/omf"},
			{from: "BUILD/completion/zsh", to: "usr/share/zsh/vendor-completions/_omf"},
			{from: "BUILD/completion/fish", to: "usr/share/fish/vendor_completions.d/omf.fish"},
			{from: "README.md", to: doc + "loadnode/"},
			{from: "docs/*.md", to: doc + "loadnode/"},
			{from: "events/asyncapi.yaml", to: doc + "loadnode/"},
		}},
		{name: "loadnode-server", source: "deploy/packages/server", any: true, entries: []entry{
			{from: "deploy/systemd/loadnode.service", to: "lib/systemd/system/"},
			{from: "deploy/systemd/netboot.conf", to: doc + "loadnode-server/examples/"},
			{from: "deploy/packages/server/loadnode.yaml", to: "etc/loadnode/"},
			{from: "deploy/packages/server/inventory.yaml", to: "etc/loadnode/"},
			{to: "etc/loadnode/conf.d", mode: directory},
			{from: "docs/install.md", to: doc + "loadnode-server/"},
			{from: "BUILD/inventory.txt", to: doc + "loadnode-server/"},
		}, conf: []string{"/etc/loadnode/loadnode.yaml", "/etc/loadnode/inventory.yaml"}},
		{name: "loadnode-agent", source: "deploy/packages/agent", entries: []entry{
			{from: "PROGRAMS/omf-agent", to: "usr/sbin/", mode: 0o755},
			{from: "deploy/systemd/loadnode-agent.service", to: "lib/systemd/system/"},
			{from: "deploy/packages/agent/agent.env", to: "etc/loadnode/"},
			{from: "BUILD/man/*.8", to: "usr/share/man/man8/", gzip: true},
			{from: "docs/install.md", to: doc + "loadnode-agent/"},
		}, conf: []string{"/etc/loadnode/agent.env"}},
	}
	for i, p := range list {
		list[i].entries = append(p.entries,
			entry{from: "deploy/packages/copyright", to: doc + p.name + "/"},
			entry{from: "NOTICES/third-party.txt", to: doc + p.name + "/", gzip: true},
			entry{from: "BUILD/changelog", to: doc + p.name + "/", gzip: true})
	}
	return list
}

// files reads what a package holds; at finds the place of a pattern.
func (p pkg) files(at func(string) string) ([]file, error) {
	var out []file
	for _, e := range p.entries {
		if e.mode&directory != 0 {
			out = append(out, file{path: e.to, mode: e.mode | 0o755})
			continue
		}
		found, err := filepath.Glob(at(e.from))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", p.name, e.from, err)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: there is no %s", p.name, e.from)
		}
		for _, name := range found {
			f := file{path: e.to, mode: e.mode}
			if f.mode == 0 {
				f.mode = 0o644
			}
			if strings.HasSuffix(e.to, "/") {
				f.path += filepath.Base(name)
			}
			if f.data, err = os.ReadFile(name); err != nil {
				return nil, err
			}
			if e.gzip {
				f.path += ".gz"
				if f.data, err = gzipped(f.data); err != nil {
					return nil, err
				}
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// control reads the control part of a package and fills it in.
func (p pkg) control(root, version, arch string, data []file) ([]file, error) {
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(root, p.source, name)) }
	text, err := read("control")
	if err != nil {
		return nil, err
	}
	kib := 0
	for _, f := range data {
		kib += (len(f.data) + 1023) / 1024
	}
	filled := strings.NewReplacer("{VERSION}", version, "{ARCH}", arch, "{SIZE}", fmt.Sprint(kib)).Replace(string(text))
	out := []file{{"control", 0o644, []byte(filled)}}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		b, err := read(script)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, file{script, 0o755, b})
	}
	if len(p.conf) > 0 {
		var b bytes.Buffer
		for _, c := range p.conf {
			if !slices.ContainsFunc(data, func(f file) bool { return "/"+f.path == c }) {
				return nil, fmt.Errorf("%s: %s is not in the package", p.name, c)
			}
			fmt.Fprintln(&b, c)
		}
		out = append(out, file{"conffiles", 0o644, b.Bytes()})
	}
	return out, nil
}
