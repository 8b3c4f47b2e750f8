package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"loadnode/agent/initramfs/module"
)

// ko is a file with nothing in it but a section .modinfo.
func ko(t testing.TB, fields ...string) []byte {
	t.Helper()
	text := strings.Join(fields, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	le := binary.LittleEndian
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
		Shoff: uint64(64 + len(text) + len(names)),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	require.NoError(t, binary.Write(&b, le, header))
	b.WriteString(text + names)
	require.NoError(t, binary.Write(&b, le, []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(text))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(text)), Size: uint64(len(names))},
	}))
	return b.Bytes()
}

func TestReadInfo(t *testing.T) {
	m, err := readInfo(ko(t, "name=r8169", "depends=libphy,mdio-devres", "softdep=pre: realtek post: other", "alias=pci:v000010ECd00008168*", "alias=two words", "firmware=rtl_nic/a.fw", "license=GPL"))
	require.NoError(t, err)
	require.Equal(t, info{
		name: "r8169", depends: []string{"libphy", "mdio-devres"}, before: []string{"realtek"},
		aliases: []string{"pci:v000010ECd00008168*"}, firmware: []string{"rtl_nic/a.fw"},
	}, m)
	for _, bad := range [][]byte{nil, []byte("text"), ko(t, "license=GPL"), ko(t)[:80]} {
		_, err := readInfo(bad)
		require.ErrorIs(t, err, errNoModule)
	}
}

func FuzzReadInfo(f *testing.F) {
	f.Add(ko(f, "name=a", "depends=b"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if m, err := readInfo(file); err == nil {
			require.NotEmpty(t, m.name)
		}
	})
}

// modules is a directory of modules; one is compressed.
func modules(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.1.0-test")
	write := func(name string, data []byte) {
		p := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		require.NoError(t, os.WriteFile(p, data, 0o644))
	}
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z)
	require.NoError(t, err)
	_, err = w.Write(ko(t, "name=virtio", "depends="))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	write("kernel/drivers/virtio/virtio.ko.zst", z.Bytes())
	write("kernel/drivers/virtio/virtio_ring.ko", ko(t, "name=virtio_ring", "depends=virtio"))
	write("kernel/net/core/failover.ko", ko(t, "name=failover", "depends="))
	write("kernel/drivers/net/virtio_net.ko", ko(t, "name=virtio_net", "depends=virtio_ring,virtio,ptp", "softdep=pre: failover absent", "alias=virtio:d00000001v*", "firmware=vn.fw"))
	write("kernel/drivers/net/lost.ko", ko(t, "name=lost", "depends=nowhere"))
	write("kernel/drivers/net/a.ko", ko(t, "name=a", "depends=b"))
	write("kernel/drivers/net/b.ko", ko(t, "name=b", "depends=a"))
	write("modules.builtin", []byte("kernel/drivers/ptp/ptp.ko\n"))
	return dir
}

func TestChoose(t *testing.T) {
	tr, err := openTree(modules(t))
	require.NoError(t, err)
	c, err := tr.choose([]string{"virtio-net", "ptp", "e1000"})
	require.NoError(t, err)
	require.Equal(t, []string{"failover", "virtio", "virtio_net", "virtio_ring"}, c.names)
	require.Equal(t, []string{"e1000"}, c.missing, "what is built in is not missing")

	// What the imaging system reads of it.
	dep, alias := tr.index(c)
	var x module.Index
	require.NoError(t, x.ReadDep(bytes.NewReader(dep)))
	require.NoError(t, x.ReadAlias(bytes.NewReader(alias)))
	m, ok := x.Lookup("virtio_net")
	require.True(t, ok)
	require.Equal(t, []string{"kernel/net/core/failover.ko", "kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko"}, m.Needs)
	require.Equal(t, []string{"virtio_net"}, x.Claims("virtio:d00000001v00001AF4"))

	_, err = tr.choose([]string{"lost"})
	require.ErrorContains(t, err, "nowhere")
	_, err = tr.choose([]string{"a"})
	require.ErrorContains(t, err, "circle")
	require.Equal(t, []string{"a", "b", "lost", "virtio_net"}, tr.below([]string{"drivers/net"}))
}

func TestNoDriverTwice(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range drivers() {
		require.False(t, seen[module.Name(d)], d)
		seen[module.Name(d)] = true
	}
}

// build runs the program on the small tree.
func build(t *testing.T, args ...string) (kernel, initrd []byte) {
	t.Helper()
	dir := t.TempDir()
	agent, image := filepath.Join(dir, "agent"), filepath.Join(dir, "vmlinuz")
	require.NoError(t, os.WriteFile(agent, []byte("the agent"), 0o755))
	require.NoError(t, os.WriteFile(image, []byte("the kernel"), 0o644))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), append([]string{"-o", dir, "-agent", agent, "-kernel", image, "-modules", modules(t), "-cache", dir}, args...), &out, &out), out.String())
	kernel, err := os.ReadFile(filepath.Join(dir, "kernel"))
	require.NoError(t, err)
	initrd, err = os.ReadFile(filepath.Join(dir, "initrd"))
	require.NoError(t, err)
	return kernel, initrd
}

func TestBuild(t *testing.T) {
	firmware := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(firmware, "vn.fw"), []byte("firmware"), 0o644))
	shell := filepath.Join(firmware, "busybox")
	require.NoError(t, os.WriteFile(shell, []byte("shell"), 0o755))
	kernel, initrd := build(t, "-firmware", firmware, "-shell", shell)
	require.Equal(t, "the kernel", string(kernel))
	_, again := build(t, "-firmware", firmware, "-shell", shell)
	require.Equal(t, initrd, again, "the same inputs give the same bytes")

	z, err := zstd.NewReader(bytes.NewReader(initrd))
	require.NoError(t, err)
	defer z.Close()
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("there is no program cpio here (package cpio)")
	}
	list := exec.Command(program, "-t", "--quiet")
	list.Stdin = bytes.NewReader(raw)
	out, err := list.Output()
	require.NoError(t, err)
	require.Equal(t, strings.Fields(`bin bin/busybox bin/sh dev dev/console etc init lib lib/firmware lib/firmware/vn.fw lib/modules lib/modules/6.1.0-test
		lib/modules/6.1.0-test/kernel lib/modules/6.1.0-test/kernel/drivers lib/modules/6.1.0-test/kernel/drivers/net
		lib/modules/6.1.0-test/kernel/drivers/net/virtio_net.ko lib/modules/6.1.0-test/kernel/drivers/virtio
		lib/modules/6.1.0-test/kernel/drivers/virtio/virtio.ko lib/modules/6.1.0-test/kernel/drivers/virtio/virtio_ring.ko
		lib/modules/6.1.0-test/kernel/net lib/modules/6.1.0-test/kernel/net/core lib/modules/6.1.0-test/kernel/net/core/failover.ko
		lib/modules/6.1.0-test/modules.alias lib/modules/6.1.0-test/modules.dep proc run sbin sbin/modprobe sys tmp`), strings.Fields(string(out)))
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-o", "x", "y"}, {"-o", "x", "-arch", "mips"}, {"-o", "x", "-deb", "a", "-package", "b"}, {"-o", "x", "-kernel", "a"}, {"-o", "x", "-modules", "a"},
	} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard), "%v", args)
	}
}

func TestUnpacks(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "vmlinuz-1")
	require.True(t, unpacks(image, "1", "zstd"), "nobody says no")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config-1"), []byte("#\nCONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n"), 0o644))
	require.False(t, unpacks(image, "1", "zstd"))
	require.True(t, unpacks(image, "1", "gzip"))
}
