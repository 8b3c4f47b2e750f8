package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
)

// spareMachines join later: one with a larger disk of another kind, and one
// whose disk is too small for any image here.
func spareMachines(s settings) []*machine {
	all := []*machine{
		{name: "n1-4", index: 4, size: 320 << 20, bus: []string{"-device", "ide-hd,drive=d,bus=ide.0,serial=proof-4,bootindex=1"}},
		{name: "n1-5", index: 5, size: 64 << 20, bus: []string{"-device", "virtio-blk-pci,drive=d,serial=proof-5,bootindex=1"}},
	}
	for _, m := range all {
		m.work, m.disk = s.work, filepath.Join(s.work, m.name+".disk")
	}
	return all
}

// blank gives a machine that is off a disk without content.
func (m *machine) blank() error {
	f, err := os.Create(m.disk)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(cmp.Or(m.size, diskSize)), f.Close())
}

// copyFile copies a file to the beginning of another one.
func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	return errors.Join(err, f.Close())
}

// slow makes the next starts of a machine those with a disk that takes and gives
// so many bytes a second, 0: as fast as it is.
func (m *machine) slow(rate int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rate = rate
}
