package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const rawSize = 96 << 20 // bytes of the image before compression

// makeImage makes a disk with a partition table and an ext4 filesystem, and its
// compressed form in the image directory. It returns the path of the raw one.
func makeImage(ctx context.Context, s settings) (string, error) {
	files := filepath.Join(s.work, "files")
	if err := errors.Join(os.MkdirAll(files, 0o755), os.MkdirAll(filepath.Join(s.work, "images"), 0o755)); err != nil {
		return "", err
	}
	data := make([]byte, 24<<20)
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{1}), data); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(files, "data"), data, 0o644); err != nil {
		return "", err
	}
	raw := filepath.Join(s.work, "proof.raw")
	f, err := os.Create(raw)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Truncate(rawSize), f.Close()); err != nil {
		return "", err
	}
	if err := do(ctx, "label: dos\nstart=2048, type=83\n", "sfdisk", "-q", raw); err != nil {
		return "", err
	}
	if err := do(ctx, "", "mke2fs", "-q", "-t", "ext4", "-d", files, "-E", "offset=1048576,lazy_itable_init=0", raw, fmt.Sprint((rawSize-1<<20)/1024)+"k"); err != nil {
		return "", err
	}
	return raw, do(ctx, "", filepath.Join(filepath.Dir(s.omf), "imagezip"), raw, filepath.Join(s.work, "images", imageName))
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
	want, got := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < diskSize; at += int64(len(got)) {
		clear(want)
		if n, err := a.ReadAt(want, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else if n < len(want) {
			clear(want[n:])
		}
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
