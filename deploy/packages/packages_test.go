package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDebianVersion(t *testing.T) {
	when := time.Date(2026, 11, 23, 5, 2, 20, 0, time.UTC)
	// In the order in which dpkg must sort them.
	versions := []struct{ describe, want string }{
		{"568fcf4", "0~git20261123.050220.568fcf4"},
		{"568fcf4-dirty", "0~git20261123.050220.568fcf4+dirty"},
		{"1234567", "0~git20261123.050220.1234567"},
		{"v0.9.0-rc1", "0.9.0~rc1"},
		{"v0.9.0-rc1-3-gabcd123", "0.9.0~rc1+3.gabcd123"},
		{"v0.9.0", "0.9.0"},
		{"v0.9.0-dirty", "0.9.0+dirty"},
		{"0.9.1-12-gabcdef0", "0.9.1+12.gabcdef0"},
		{"v0.9.1-12-gabcdef0-dirty", "0.9.1+12.gabcdef0+dirty"},
		{"v1", "1"},
	}
	for _, v := range versions {
		got, err := debianVersion(v.describe, when)
		require.NoError(t, err)
		require.Equal(t, v.want, got)
		require.Regexp(t, `^[0-9][0-9A-Za-z.+~]*$`, got)
	}
	for _, bad := range []string{"", "dev", "v1.0 beta", "v1.0\nDepends: x", "v1..2", "-dirty"} {
		_, err := debianVersion(bad, when)
		require.ErrorContains(t, err, "git describe", bad)
	}
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg is not installed, so nobody judges the order of versions")
	}
	for i := 1; i < len(versions); i++ {
		if versions[i].describe == "1234567" {
			continue // of another commit, at the same time: no order
		}
		a, b := versions[i-1].want, versions[i].want
		if strings.HasSuffix(a, ".1234567") {
			a = versions[0].want
		}
		require.NoError(t, exec.Command("dpkg", "--compare-versions", a, "lt", b).Run(), "%s is before %s", a, b)
	}
}

func sample() (control, data []file) {
	return []file{
			{"control", 0o644, []byte("Package: sample\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: sample\n of a package\n")},
			{"postinst", 0o755, []byte("#!/bin/sh\n")},
		}, []file{
			{"usr/share/doc/sample/b", 0o644, []byte("odd")},
			{"usr/bin/a", 0o755, []byte("#!/bin/sh\n")},
			{"etc/empty", directory | 0o755, nil},
		}
}

// TestDeb: the same files in any order give the same bytes, and these are what
// deb(5) says.
func TestDeb(t *testing.T) {
	when := time.Unix(1_700_000_000, 0)
	control, data := sample()
	var one, two bytes.Buffer
	require.NoError(t, writeDeb(&one, control, data, when))
	data[0], data[2] = data[2], data[0]
	require.NoError(t, writeDeb(&two, control, data, when))
	require.Equal(t, sha256.Sum256(one.Bytes()), sha256.Sum256(two.Bytes()))

	rest, ok := bytes.CutPrefix(one.Bytes(), []byte("!<arch>\n"))
	require.True(t, ok)
	var names []string
	members := map[string][]byte{}
	for len(rest) > 0 {
		require.GreaterOrEqual(t, len(rest), 60)
		head := string(rest[:60])
		require.Equal(t, "`\n", head[58:])
		require.Equal(t, "1700000000", strings.TrimSpace(head[16:28]))
		size, err := strconv.Atoi(strings.TrimSpace(head[48:58]))
		require.NoError(t, err)
		name := strings.TrimSpace(head[:16])
		names, members[name] = append(names, name), rest[60:60+size]
		rest = rest[60+size+size%2:]
	}
	require.Equal(t, []string{"debian-binary", "control.tar.gz", "data.tar.gz"}, names)
	require.Equal(t, "2.0\n", string(members["debian-binary"]))
	list := func(member string) (out []string) {
		z, err := gzip.NewReader(bytes.NewReader(members[member]))
		require.NoError(t, err)
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return out
			}
			require.NoError(t, err)
			require.True(t, h.ModTime.Equal(when))
			require.Equal(t, "root root 0 0", fmt.Sprint(h.Uname, " ", h.Gname, " ", h.Uid, " ", h.Gid))
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			out = append(out, fmt.Sprintf("%s %o %s", h.Name, h.Mode, b))
		}
	}
	require.Equal(t, []string{
		"./ 755 ", "./etc/ 755 ", "./etc/empty/ 755 ", "./usr/ 755 ", "./usr/bin/ 755 ", "./usr/bin/a 755 #!/bin/sh\n",
		"./usr/share/ 755 ", "./usr/share/doc/ 755 ", "./usr/share/doc/sample/ 755 ", "./usr/share/doc/sample/b 644 odd",
	}, list("data.tar.gz"))
	require.Contains(t, list("control.tar.gz"), "./md5sums 644 3e2b31c72181b87149ff995e7202c0e3  usr/bin/a\na2b6f2a6066ed8700d83335fc50a2b8e  usr/share/doc/sample/b\n")
}

// TestDpkg: dpkg reads what was written as it was meant.
func TestDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	name := filepath.Join(t.TempDir(), "sample.deb")
	var b bytes.Buffer
	control, data := sample()
	require.NoError(t, writeDeb(&b, control, data, time.Unix(1_700_000_000, 0)))
	require.NoError(t, os.WriteFile(name, b.Bytes(), 0o600))
	out, err := exec.Command(dpkg, "-f", name).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, string(control[0].data), string(out))
	cmd := exec.Command(dpkg, "-c", name)
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, 10, strings.Count(string(out), "root/root"))
	require.Contains(t, string(out), "-rwxr-xr-x root/root        10 2023-11-14 22:13 ./usr/bin/a\n")
	root := t.TempDir()
	out, err = exec.Command(dpkg, "-x", name, root).CombinedOutput()
	require.NoError(t, err, string(out))
	require.DirExists(t, filepath.Join(root, "etc/empty"))
}

// TestLayout: what the packages take from the source is there, the control
// files are whole, and the scripts are shell.
func TestLayout(t *testing.T) {
	made := t.TempDir()
	for _, name := range []string{
		"omf", "frisbee", "frisbeed", "imagezip", "imageunzip", "omf-agent", "x.1", "x.5", "x.8", "bash", "zsh", "fish",
		"inventory.txt", "changelog", "third-party.txt",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(made, name), []byte(name), 0o600))
	}
	at := func(pattern string) string {
		top, _, _ := strings.Cut(pattern, "/")
		if strings.ToUpper(top) == top && top != "LICENSE" {
			return filepath.Join(made, filepath.Base(pattern))
		}
		return filepath.Join("../..", pattern)
	}
	owner := map[string]string{}
	for _, p := range layout() {
		data, err := p.files(at)
		require.NoError(t, err)
		for _, f := range data {
			require.Empty(t, owner[f.path], f.path)
			owner[f.path] = p.name
		}
		control, err := p.control("../..", "1.0", "amd64", data)
		require.NoError(t, err)
		text := string(control[0].data)
		require.NotContains(t, text, "{")
		require.Contains(t, text, "Package: "+p.name+"\nVersion: 1.0\n")
		require.Equal(t, p.any, strings.Contains(text, "Architecture: all\n"))
		for line := range strings.Lines(text) {
			require.Regexp(t, regexp.MustCompile(`^([A-Z][A-Za-z-]*: .+| .+)\n$`), line)
		}
		for _, f := range control[1:] {
			if f.path != "conffiles" {
				cmd := exec.Command("sh", "-n")
				cmd.Stdin = bytes.NewReader(f.data)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s of %s: %s", f.path, p.name, out)
			}
		}
	}
	require.Equal(t, "loadnode", owner["usr/bin/omf"])
	require.Equal(t, "loadnode-agent", owner["usr/share/man/man8/x.8.gz"])
	require.Equal(t, "loadnode-server", owner["etc/loadnode/loadnode.yaml"])

	missing := pkg{name: "p", entries: []entry{{from: "none/*", to: "x/"}}}
	_, err := missing.files(at)
	require.ErrorContains(t, err, "there is no none/*")
	missing = pkg{source: "deploy/packages/agent", conf: []string{"/etc/none"}}
	_, err = missing.control("../..", "1", "all", nil)
	require.ErrorContains(t, err, "/etc/none is not in the package")
}

// TestUnits: systemd has nothing to complain about but that the programs are
// not on this machine, and finds the service well confined.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for unit, most := range map[string]int{"loadnode.service": 20, "loadnode-agent.service": 30} {
		path := filepath.Join("../systemd", unit)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(text), "RestartPreventExitStatus", "a Go program that panics, or that the watchdog ends, exits with 2")
		// Its program and its pages are not installed here.
		changed := regexp.MustCompile(`(?m)^(ExecStart=)\S+`).ReplaceAllString(string(text), "${1}/bin/true")
		changed = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAllString(changed, "")
		copied := filepath.Join(t.TempDir(), unit)
		require.NoError(t, os.WriteFile(copied, []byte(changed), 0o600))
		out, err := exec.Command(analyze, "verify", copied).CombinedOutput()
		require.NoError(t, err, string(out))
		require.NotContains(t, string(out), unit)
		out, err = exec.Command(analyze, "security", "--offline=true", "--threshold="+strconv.Itoa(most), path).CombinedOutput()
		require.NoError(t, err, string(out))
	}
}
