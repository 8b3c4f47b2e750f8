package module

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const dep = `kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/net/core/failover.ko:
kernel/drivers/net/virtio-net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko

# a comment
kernel/lib/crc32c-intel.ko:
`

const alias = `alias virtio:d00000001v* virtio-net
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias crypto-crc32c crc32c_generic
alias crypto-crc32c crc32c-intel
alias acpi*:PNP0A0[35]:* acpi_thing
`

func index(t testing.TB) *Index {
	t.Helper()
	x := &Index{}
	require.NoError(t, x.ReadDep(strings.NewReader(dep)))
	require.NoError(t, x.ReadAlias(strings.NewReader(alias)))
	return x
}

func TestIndex(t *testing.T) {
	x := index(t)
	require.Equal(t, 5, x.Len())
	m, ok := x.Lookup("virtio-net")
	require.True(t, ok)
	require.Equal(t, "virtio_net", m.Name)
	require.Equal(t, []string{"kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko", "kernel/net/core/failover.ko"}, m.Needs)
	_, ok = x.Lookup("e1000")
	require.False(t, ok)

	require.Equal(t, []string{"virtio_net"}, x.Claims("virtio:d00000001v00001AF4"))
	require.Equal(t, []string{"crc32c_generic", "crc32c_intel"}, x.Claims("crypto-crc32c"))
	require.Equal(t, []string{"virtio_pci"}, x.Claims("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00"))
	require.Equal(t, []string{"acpi_thing"}, x.Claims("acpi:PNP0A03:"), "the bus may have a wildcard too")
	require.Empty(t, x.Claims("pci:v00008086d"))
	require.Empty(t, (&Index{}).Claims("virtio:d00000001v00001AF4"))
}

func TestBrokenIndex(t *testing.T) {
	for _, text := range []string{"no colon", ": a.ko", "/etc/a.ko:", "a.ko: ../../etc/passwd", "a.ko: ..", "a//b.ko:"} {
		require.ErrorIs(t, (&Index{}).ReadDep(strings.NewReader(text)), ErrSyntax, text)
	}
	for _, text := range []string{"alias a", "softdep a pre: b", "alias a b c"} {
		require.ErrorIs(t, (&Index{}).ReadAlias(strings.NewReader("\n"+text)), ErrSyntax, text)
	}
	require.ErrorContains(t, (&Index{}).ReadDep(strings.NewReader("a.ko:\n"+strings.Repeat("x", maxLine+1))), "line 2")
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		glob, text string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"*", "", true}, {"*", "abc", true}, {"a*c", "abbc", true}, {"a*c", "abb", false},
		{"a*b*c", "axbxbxc", true}, {"?", "a", true}, {"?", "", false}, {"[abc]", "b", true}, {"[a-c]x", "bx", true}, {"[!a-c]", "b", false},
		{"[!a-c]", "d", true}, {"[]a]", "]", true}, {"[a-]", "-", true}, {"[", "[", true}, {"[a", "[a", true}, {"[a", "a", false},
		{`\*`, "*", true}, {`\*`, "a", false}, {`a\`, `a\`, true}, {"a**", "a", true}, {"*a", "b", false}, {"scsi:t-0x00*", "scsi:t-0x00", true},
	} {
		require.Equal(t, c.want, match(c.glob, c.text), "%q %q", c.glob, c.text)
	}
}

// FuzzMatch: where there is no escape and no strange set, path.Match means the same.
func FuzzMatch(f *testing.F) {
	f.Add("pci:v*d0000100[0-9]sv*", "pci:v00001AF4d00001004sv")
	f.Add("a*?*b", "aaab")
	f.Fuzz(func(t *testing.T, glob, text string) {
		if len(glob) > 200 || len(text) > 1000 {
			return
		}
		got := match(glob, text)
		ascii := !strings.ContainsFunc(glob+text, func(r rune) bool { return r >= 0x80 || r == '/' || r == '\\' || r == '[' })
		if want, err := path.Match(glob, text); err == nil && ascii {
			require.Equal(t, want, got, "%q %q", glob, text)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add(dep, alias, "crypto-crc32c")
	f.Add("a.ko: b.ko", "alias * a", "pci:x")
	f.Fuzz(func(t *testing.T, dep, alias, device string) {
		x := &Index{}
		if x.ReadDep(strings.NewReader(dep)) != nil || x.ReadAlias(strings.NewReader(alias)) != nil {
			return
		}
		x.Claims(device)
		for _, m := range x.modules {
			require.True(t, filepath.IsLocal(m.Path), m.Path)
			for _, n := range m.Needs {
				require.True(t, filepath.IsLocal(n), n)
			}
		}
	})
}

func TestLoader(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko", "kernel/net/core/failover.ko", "kernel/drivers/net/virtio-net.ko", "kernel/lib/crc32c-intel.ko"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, path.Dir(p)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, p), nil, 0o644))
	}
	var order []string
	l := &Loader{Index: index(t), Dir: dir, Insert: func(f *os.File) error {
		name := Name(f.Name())
		order = append(order, name)
		switch name {
		case "crc32c_intel":
			return unix.ENODEV
		case "virtio":
			return unix.EEXIST
		}
		return nil
	}}
	n, err := l.Claim("virtio:d00000001v00001AF4")
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Equal(t, []string{"virtio", "virtio_ring", "failover", "virtio_net"}, order)

	n, err = l.Claim("virtio:d00000001v00001AF4")
	require.NoError(t, err)
	require.Zero(t, n, "each once")

	n, err = l.Claim("crypto-crc32c")
	require.ErrorIs(t, err, unix.ENODEV)
	require.Zero(t, n)
	require.ErrorIs(t, l.Load("crc32c_intel"), unix.ENODEV)
	require.Len(t, order, 5, "what failed is not tried again")
	require.ErrorIs(t, l.Load("e1000"), ErrUnknown)

	require.NoError(t, os.Remove(filepath.Join(dir, "kernel/net/core/failover.ko")))
	l = &Loader{Index: index(t), Dir: dir, Insert: func(f *os.File) error {
		if Name(f.Name()) == "virtio_net" {
			return errors.New("unknown symbol")
		}
		return nil
	}}
	err = l.Load("virtio_net")
	require.ErrorContains(t, err, "unknown symbol")
	require.ErrorContains(t, err, "failover", "what is missing is named with it")
}
