package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// ovmf is where the package ovmf has the firmware of UEFI.
const ovmf = "/usr/share/OVMF"

// machine is one computer.
type machine struct {
	name    string // of the node
	index   int
	disk    string   // file
	bus     []string // how QEMU is to attach it
	imaging string   // directory of kernel and initrd
	work    string
	append  string // arguments of the kernel
	uefi    bool

	local bool // the next start is from the disk

	mu     sync.Mutex
	run    *exec.Cmd
	ended  chan struct{}
	starts int
}

// arguments are QEMU's for one start.
func (m *machine) arguments(console string) []string {
	args := append([]string{
		"-accel", "tcg", "-m", "512", "-smp", "1", "-display", "none", "-no-reboot", "-name", m.name,
		"-serial", "file:" + console, "-monitor", "none",
		"-netdev", fmt.Sprintf("tap,id=n,ifname=tap%d,script=no,downscript=no", m.index),
		"-device", "virtio-net-pci,netdev=n,romfile=,mac=" + hardware(m.index).String(),
		"-drive", "id=d,if=none,format=raw,cache=unsafe,file=" + m.disk,
	}, m.bus...)
	if m.uefi {
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+ovmf+"/OVMF_CODE.fd", "-drive", "if=pflash,format=raw,snapshot=on,file="+ovmf+"/OVMF_VARS.fd")
	}
	if !m.local {
		args = append(args, "-kernel", filepath.Join(m.imaging, "kernel"), "-initrd", filepath.Join(m.imaging, "initrd"), "-append", m.append)
	}
	return args
}

// console is the file of what the machine printed in its last start.
func (m *machine) console() string {
	return filepath.Join(m.work, fmt.Sprintf("%s-%d.console", m.name, m.starts))
}

// power does what a power controller does, and says whether it is on.
func (m *machine) power(action string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	switch action {
	case "status":
	case "off", "soft":
		m.off()
	case "on":
		if m.run == nil {
			err = m.on()
		}
	case "reset", "cycle":
		m.off()
		err = m.on()
	default:
		err = fmt.Errorf("power %q: unknown", action)
	}
	if m.run == nil {
		return "off", err
	}
	select {
	case <-m.ended:
		return "off", err
	default:
		return "on", err
	}
}

func (m *machine) on() error {
	m.starts++
	cmd := exec.Command("qemu-system-x86_64", m.arguments(m.console())...)
	log, err := os.Create(filepath.Join(m.work, m.name+".qemu"))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	err = errors.Join(cmd.Start(), log.Close())
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it ends with an error when its power is cut
		close(ended)
	}()
	m.run, m.ended = cmd, ended
	return nil
}

func (m *machine) off() {
	if m.run == nil {
		return
	}
	_ = m.run.Process.Kill() // it may have ended
	<-m.ended
	m.run = nil
}

// startLocal switches the machine on to boot from its disk.
func (m *machine) startLocal() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off()
	m.local = true
	return m.on()
}

// awaitOff waits until the machine has switched itself off.
func (m *machine) awaitOff(ctx context.Context) error {
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended == nil {
		return fmt.Errorf("%s was never switched on", m.name)
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not switch itself off: %w", m.name, ctx.Err())
	}
}
