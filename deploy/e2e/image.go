package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
)

// The image: a partition from which both kinds of firmware boot, and one with
// the system. Numbers are MiB.
const (
	bootAt, bootSize     = 1, 48
	systemAt, systemSize = bootAt + bootSize, 64
	rawSize              = (systemAt + systemSize) << 20 // bytes
)

// Boot loaders, from Debian's packages syslinux-common and systemd-boot-efi.
const (
	biosLoader = "/usr/lib/syslinux/mbr/mbr.bin"
	efiLoader  = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
)

// proof is an image that boots, and what only it knows.
type proof struct{ raw, token string }

// makeImage makes a disk that boots, and its compressed form in the image
// directory.
func makeImage(ctx context.Context, s settings) (proof, error) {
	secret := make([]byte, 16)
	rand.Read(secret)
	p := proof{raw: filepath.Join(s.work, "proof.raw"), token: hex.EncodeToString(secret)}
	if err := system(s, p.token); err != nil {
		return p, err
	}
	f, err := os.Create(p.raw)
	if err != nil {
		return p, err
	}
	if err := errors.Join(f.Truncate(rawSize), f.Close()); err != nil {
		return p, err
	}
	if err := do(ctx, fmt.Sprintf("label: dos\nstart=%dMiB, size=%dMiB, type=ef, bootable\nstart=%dMiB, size=%dMiB, type=83\n", bootAt, bootSize, systemAt, systemSize), "sfdisk", "-q", p.raw); err != nil {
		return p, err
	}
	if err := bootPartition(ctx, s, p.raw); err != nil {
		return p, err
	}
	if err := do(ctx, "", "mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(s.work, "files"), "-E", fmt.Sprintf("offset=%d,lazy_itable_init=0", systemAt<<20),
		p.raw, fmt.Sprintf("%dk", systemSize<<10)); err != nil {
		return p, err
	}
	return p, errors.Join(os.MkdirAll(filepath.Join(s.work, "images"), 0o755),
		do(ctx, "", filepath.Join(filepath.Dir(s.omf), "imagezip"), p.raw, filepath.Join(s.work, "images", imageName)))
}

// system writes the files of the system: its init, its token, and some data.
func system(s settings, token string) error {
	init, err := os.ReadFile(s.guest + ".init")
	if err != nil {
		return err
	}
	data := make([]byte, 16<<20)
	if _, err := io.ReadFull(mrand.NewChaCha8([32]byte{1}), data); err != nil {
		return err
	}
	root := filepath.Join(s.work, "files")
	if err := os.MkdirAll(filepath.Join(root, "root"), 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"sbin/init": init, "etc/token": []byte(token + "\n"), "data": data, "var/boots": bytes.Repeat([]byte{'\n'}, 4<<10),
		"etc/os-release": []byte("ID=proof\n"), "etc/passwd": []byte("root:x:0:0:root:/root:/bin/sh\n"),
	} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// bootPartition makes the filesystem with kernel and loaders. It is where UEFI
// looks, and holds syslinux for BIOS.
func bootPartition(ctx context.Context, s settings, raw string) error {
	at := fmt.Sprintf("%s@@%d", raw, bootAt<<20)
	config := filepath.Join(s.work, "boot")
	for name, text := range map[string]string{
		"syslinux.cfg": "DEFAULT system\nLABEL system\n  KERNEL /kernel\n  INITRD /initrd\n  APPEND " + kernelArguments + "\n",
		"loader.conf":  "timeout 0\n",
		"system.conf":  "title system\nlinux /kernel\ninitrd /initrd\noptions " + kernelArguments + "\n",
	} {
		if err := errors.Join(os.MkdirAll(config, 0o755), os.WriteFile(filepath.Join(config, name), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	for _, words := range [][]string{
		{"mkfs.fat", "-F", "16", "-h", fmt.Sprint(bootAt << 11), "--offset", fmt.Sprint(bootAt << 11), raw, fmt.Sprint(bootSize << 10)},
		{"mmd", "-i", at, "::EFI", "::EFI/BOOT", "::loader", "::loader/entries"},
		{"mcopy", "-i", at, filepath.Join(s.guest, "kernel"), filepath.Join(s.guest, "initrd"), filepath.Join(config, "syslinux.cfg"), "::"},
		{"mcopy", "-i", at, efiLoader, "::EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", at, filepath.Join(config, "loader.conf"), "::loader/"},
		{"mcopy", "-i", at, filepath.Join(config, "system.conf"), "::loader/entries/"},
		{"syslinux", "--offset", fmt.Sprint(bootAt << 20), "--install", raw},
		{"dd", "if=" + biosLoader, "of=" + raw, "bs=440", "count=1", "conv=notrunc", "status=none"},
	} {
		if err := do(ctx, "", words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// same compares a disk with the image: what the image has is on the disk, and
// behind it the disk is as blank as it was.
func same(raw, disk string) error {
	a, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer b.Close()
	st, err := b.Stat()
	if err != nil {
		return err
	}
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < st.Size(); at += int64(len(got)) {
		n, err := a.ReadAt(want, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		clear(want[n:])
		if _, err := b.ReadAt(got, at); err != nil {
			return err
		}
		if i := differ(want, got); i >= 0 {
			return fmt.Errorf("%s differs from the image at byte %d", disk, at+int64(i))
		}
	}
	return nil
}

// differ is where two blocks of one length differ, or -1.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
