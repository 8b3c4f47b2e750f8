package main

import (
	"context"
	"os"
	"path/filepath"
)

// otherLoader has a machine loaded, and starts it from its disk, by a server
// that was started anew and has pxelinux as its loader.
func otherLoader(ctx context.Context, s settings, image proof, m *machine) error {
	const name = "pxelinux"
	_, stop, err := serve(ctx, s, name, "--boot-loader", "pxelinux")
	if err != nil {
		return err
	}
	defer stop()
	for _, step := range []func() error{
		m.blank,
		func() error { return load(ctx, s, m.name) },
		func() error { return m.awaitOff(ctx) },
		func() error { return same(image.raw, m.disk) },
		func() error { return remembers(ctx, m, image.token, nil) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(filepath.Join(s.work, name+".log"))
	if err != nil {
		return err
	}
	return logged(string(text), m, "stage=tftp detail=lpxelinux.0", "stage=script detail=pxelinux.cfg/01-", "start=imaging", "start=disk")
}
