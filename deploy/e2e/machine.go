package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// ovmf is where the package ovmf has the firmware of UEFI.
const ovmf = "/usr/share/OVMF"

// kernelArguments are those of every kernel. On a busy computer the timer of an
// emulated one may be late, which makes the kernel's check of it panic.
const kernelArguments = "console=ttyS0 quiet no_timer_check"

// machine is one computer. Whatever it is to do, it starts from the network
// first, and from its disk if it is sent there.
type machine struct {
	name  string // of the node
	index int
	disk  string   // file
	bus   []string // how QEMU is to attach it, with bootindex=1
	work  string
	uefi  bool

	size   int64 // of its disk, bytes; 0: diskSize
	rate   int   // its disk takes and gives so many bytes a second; 0: as many as it can
	memory int   // MiB, 0: 512
	noROM  bool  // its network card cannot boot
	chain  bool  // iPXE in its network card is to fetch another one
	lost   bool  // it never comes, and is not waited for as long as others

	// fail is told when QEMU ends by itself with an error. It may be nil.
	fail func(error)

	mu     sync.Mutex
	run    *exec.Cmd
	ended  chan struct{}
	cut    *atomic.Bool // of this start: its power was cut
	starts int
	broken atomic.Pointer[error]
}

// arguments are QEMU's for one start.
func (m *machine) arguments(console string) []string {
	card := "virtio-net-pci,netdev=n,bootindex=0,mac=" + hardware(m.index).String()
	if m.noROM || m.uefi { // that of UEFI is in its firmware
		card += ",romfile="
	}
	drive := "id=d,if=none,format=raw,cache=unsafe,file=" + m.disk
	if m.rate > 0 {
		drive += fmt.Sprintf(",throttling.bps-total=%d", m.rate)
	}
	args := append([]string{
		"-accel", "tcg", "-m", fmt.Sprint(cmp.Or(m.memory, 512)), "-smp", "1", "-display", "none", "-no-reboot", "-name", m.name,
		"-serial", "file:" + console, "-monitor", "none",
		"-netdev", fmt.Sprintf("tap,id=n,ifname=tap%d,script=no,downscript=no", m.index), "-device", card,
		"-drive", drive,
	}, m.bus...)
	if m.uefi {
		// Of the ways into the network the firmware would try IPv6 before the
		// disk, for minutes.
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file="+ovmf+"/OVMF_CODE.fd", "-drive", "if=pflash,format=raw,snapshot=on,file="+ovmf+"/OVMF_VARS.fd")
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
		if !m.running() {
			m.off()
			err = m.on()
		}
	case "reset", "cycle":
		m.off()
		err = m.on()
	default:
		err = fmt.Errorf("power %q: unknown", action)
	}
	err = errors.Join(err, m.why())
	if m.running() {
		return "on", err
	}
	return "off", err
}

// running reports whether it is on. The caller holds mu.
func (m *machine) running() bool {
	if m.run == nil {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

func (m *machine) on() error {
	m.starts++
	cmd := exec.Command("qemu-system-x86_64", m.arguments(m.console())...)
	said := filepath.Join(m.work, m.name+".qemu")
	log, err := os.Create(said)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	err = errors.Join(cmd.Start(), log.Close())
	if err != nil {
		return err
	}
	ended, cut := make(chan struct{}), new(atomic.Bool)
	go func() {
		defer close(ended)
		if err := cmd.Wait(); err != nil && !cut.Load() {
			m.breakDown(err, said)
		}
	}()
	m.run, m.ended, m.cut = cmd, ended, cut
	return nil
}

// breakDown notes that QEMU ended by itself, which no machine does that is
// switched off from inside.
func (m *machine) breakDown(err error, said string) {
	text, _ := os.ReadFile(said) // nothing, if it is gone
	err = fmt.Errorf("%s: QEMU: %w: %s", m.name, err, bytes.TrimSpace(text))
	m.broken.Store(&err)
	if m.fail != nil {
		m.fail(err)
	}
}

// why is the error that QEMU ended with, if it did.
func (m *machine) why() error {
	if err := m.broken.Load(); err != nil {
		return *err
	}
	return nil
}

func (m *machine) off() {
	if m.run == nil {
		return
	}
	m.cut.Store(true)
	_ = m.run.Process.Kill() // it may have ended
	<-m.ended
	m.run = nil
}

// startLocal switches the machine on by hand: no job wants it, so that it ends
// up on its disk.
func (m *machine) startLocal() error {
	_, err := m.power("cycle")
	return err
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
		return m.why()
	case <-ctx.Done():
		return fmt.Errorf("%s did not switch itself off: %w", m.name, ctx.Err())
	}
}
