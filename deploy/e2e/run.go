package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"loadnode/bus"
	"loadnode/events"
)

const (
	testbed   = "default"
	natsURL   = "nats://" + server + ":4222"
	imageName = "proof.ndz"
	diskSize  = 256 << 20 // bytes of each machine's disk
	webPort   = "5012"
	patience  = 14 * time.Minute
)

// machines are the computers of the proof.
func machines(s settings) []*machine {
	buses := [][]string{
		{"-device", "virtio-blk-pci,drive=d,serial=proof-1,bootindex=1"},
		{"-device", "nvme,drive=d,serial=proof-2,bootindex=1"},
		{"-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d,serial=proof-3,bootindex=1"},
	}
	var all []*machine
	for i, b := range buses {
		m := &machine{name: fmt.Sprintf("n1-%d", i+1), index: i + 1, bus: b, uefi: i == 2, chain: i == 1, work: s.work}
		m.disk = filepath.Join(s.work, m.name+".disk")
		all = append(all, m)
	}
	return all
}

func run(ctx context.Context, s settings) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	err := scenarios(ctx, s, fail)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// scenarios go through it all. fail ends ctx when a machine breaks down.
func scenarios(ctx context.Context, s settings, fail func(error)) error {
	p := newPhases(os.Stdout)
	if err := bridge(ctx); err != nil {
		return err
	}
	router, err := advertise("br0")
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	defer router.Close()
	all, spare, missing := machines(s), spareMachines(s), lostMachines(s)
	every := slices.Concat(all, spare, missing)
	for _, m := range every {
		m.fail = fail
		if err := port(ctx, fmt.Sprintf("tap%d", m.index)); err != nil {
			return err
		}
		if err := m.blank(); err != nil {
			return err
		}
	}
	image, err := makeImage(ctx, s)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	p.done("network, disks, image")

	ln, err := net.Listen("unix", filepath.Join(s.work, "power.sock"))
	if err != nil {
		return err
	}
	defer ln.Close()
	go servePower(ln, every)
	if err := inventory(s, every); err != nil {
		return err
	}
	if err := bootDirectory(s); err != nil {
		return err
	}
	conn, stop, err := serve(ctx, s, "server")
	if err != nil {
		return err
	}
	defer stop()
	p.done("server")

	if s.wants("load") {
		err = loads(ctx, s, p, image, all)
	} else { // as if it had been
		err = errors.Join(copyFile(all[0].disk, image.raw), remembers(ctx, all[0], image.token, nil))
		p.done("a machine started from a disk that was written from outside")
	}
	if err != nil {
		return err
	}
	var nowhere string // a job that takes its time, beside all others
	if s.wants("trust") {
		if nowhere, err = begin(ctx, s, "[1,7..8]", imageName); err != nil {
			return err
		}
	}
	if s.wants("save") {
		if err := saves(ctx, s, conn, image, all[0], spare[0], spare[1]); err != nil {
			return err
		}
		p.done("a disk saved and loaded elsewhere, a small disk refused")
	}
	if s.wants("outage") {
		if err := outages(ctx, s, conn, image, all[0], spare[0]); err != nil {
			return err
		}
		p.done("two machines loaded after power cuts")
	}
	if s.wants("after") {
		if err := afterwards(ctx, s, conn, image, spare[0]); err != nil {
			return err
		}
		p.done("a partition made larger, a system made its own")
	}
	if s.wants("trust") {
		if err := strangers(ctx, s, conn, all[0], all[1], image); err != nil {
			return err
		}
		p.done("two machines loaded after strangers had asked for them")
		if err := lost(ctx, conn, nowhere, missing); err != nil {
			return err
		}
		p.done("two machines that never came were reported")
	}
	if s.wants("loader") {
		stop()
		if err := otherLoader(ctx, s, image, all[0]); err != nil {
			return err
		}
		p.done("a machine loaded through pxelinux, by a server started anew")
	}
	return nil
}

// loads has three machines loaded at the same time, and starts them from their
// disks.
func loads(ctx context.Context, s settings, p *phases, image proof, all []*machine) error {
	if err := load(ctx, s, "[1,1..3]"); err != nil {
		return err
	}
	for _, m := range all {
		if err := m.awaitOff(ctx); err != nil {
			return err
		}
	}
	p.done("three machines booted, loaded and switched themselves off")
	for _, m := range all {
		if err := same(image.raw, m.disk); err != nil {
			return err
		}
		if err := timeline(m); err != nil {
			return err
		}
	}
	p.done("three disks compared with the image")

	for _, m := range all {
		if err := m.startLocal(); err != nil {
			return err
		}
	}
	for _, m := range all {
		if err := m.awaitOff(ctx); err != nil {
			return err
		}
		text, err := os.ReadFile(m.console())
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), "token "+image.token) {
			return fmt.Errorf("%s did not start the system on its disk: %s", m.name, m.console())
		}
	}
	p.done("three machines started from their disks and knew the token")
	return ways(s, all)
}

// ways looks into the server's log: each machine came the way that its
// firmware goes, and was then sent to its disk.
func ways(s settings, all []*machine) error {
	text, err := os.ReadFile(filepath.Join(s.work, "server.log"))
	if err != nil {
		return err
	}
	for _, m := range all {
		want := []string{"stage=armed", "stage=dhcp", "stage=script", "stage=kernel", "stage=initrd", "stage=config", "stage=agent", "start=disk"}
		if m.uefi {
			want = append(want, "stage=tftp detail=snponly.efi")
		}
		if m.chain {
			want = append(want, "stage=tftp detail=undionly.kpxe")
		}
		if err := logged(string(text), m, want...); err != nil {
			return err
		}
	}
	return nil
}

// logged looks for what a log says of a machine.
func logged(text string, m *machine, want ...string) error {
	for _, w := range want {
		found := false
		for line := range strings.Lines(text) {
			found = found || strings.Contains(line, w) && strings.Contains(line, "node="+m.name+" ")
		}
		if !found {
			return fmt.Errorf("the log of the server does not say %s of %s", w, m.name)
		}
	}
	return nil
}

// inventory writes the file that the server reads.
func inventory(s settings, all []*machine) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ntestbeds:\n  %s:\n    defaults:\n      disk: largest\n      power: {driver: exec, command: [%q, \"-power\", %q, \"{node}\", \"{action}\"]}\n    nodes:\n",
		testbed, self, filepath.Join(s.work, "power.sock"))
	for _, m := range all {
		checkin := ", checkin: 5m"
		if m.lost {
			checkin = ""
		}
		fmt.Fprintf(&b, "      %s: {x: 1, y: %d, mac: %q, ip: %s, boot: {driver: builtin, args: %q, chain: %t%s}}\n",
			m.name, m.index, hardware(m.index), address(m.index), kernelArguments+" panic=1", m.chain, checkin)
	}
	return os.WriteFile(filepath.Join(s.work, "inventory.yaml"), []byte(b.String()), 0o644)
}

// What firmware starts from: of Debian's packages ipxe, pxelinux and
// syslinux-common.
const (
	loaders         = "/usr/lib/ipxe"
	pxelinux        = "/usr/lib/PXELINUX/lpxelinux.0"
	pxelinuxLibrary = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
)

// bootDirectory makes the directory that machines boot from: loaders, and the
// imaging system.
func bootDirectory(s settings) error {
	dir := filepath.Join(s.work, "boot")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range []string{filepath.Join(s.imaging, "kernel"), filepath.Join(s.imaging, "initrd"), loaders + "/undionly.kpxe", loaders + "/snponly.efi", pxelinux, pxelinuxLibrary} {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// serve starts the server, and connects to its bus to look at what happens.
func serve(ctx context.Context, s settings, name string, more ...string) (*bus.Conn, func(), error) {
	state := filepath.Join(s.work, "state")
	cmd := exec.CommandContext(ctx, s.omf, append([]string{"serve", "--state", state, "--inventory", filepath.Join(s.work, "inventory.yaml"), "--images", filepath.Join(s.work, "images"),
		"--roles", "nats,handler,frisbee,netboot", "--boot-dir", filepath.Join(s.work, "boot"), "--boot-dhcp", "reservations", "--boot-interface", "br0",
		"--nats-listen", server + ":4222", "--http", net.JoinHostPort(server, webPort), "--interface", server,
		"--checkin", "90s", "--join", "3m", "--stall", "2m", "--leave", "3m", "--silence", "4m", "--log", "debug"}, more...)...)
	log, err := os.Create(filepath.Join(s.work, name+".log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	end := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready: ") {
		end()
		return nil, nil, fmt.Errorf("the server does not begin: %q, %w", line, err)
	}
	text, err := os.ReadFile(filepath.Join(state, "service.json"))
	if err != nil {
		end()
		return nil, nil, err
	}
	var cred events.Credential
	if err := json.Unmarshal(text, &cred); err != nil {
		end()
		return nil, nil, err
	}
	conn, err := bus.Connect(ctx, bus.Config{URLs: []string{natsURL}, Name: "proof", Credential: &cred})
	if err != nil {
		end()
		return nil, nil, err
	}
	return conn, sync.OnceFunc(func() { conn.Close(); end() }), nil
}

// load asks for a load and waits for its end.
func load(ctx context.Context, s settings, nodes string) error {
	cmd := omf(ctx, s, "load", nodes, imageName, "--verify", "readback")
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("omf load %s: %w", nodes, err)
	}
	return nil
}

// first is the line of the imaging system's first word, last that of the
// agent's first report.
var (
	first = regexp.MustCompile(`up=(\d+\.\d+) level=INFO msg="imaging system"`)
	last  = regexp.MustCompile(`up=(\d+\.\d+) level=INFO msg="first report taken"`)
)

// timeline prints how the machine booted.
func timeline(m *machine) error {
	text, err := os.ReadFile(m.console())
	if err != nil {
		return err
	}
	a, b := first.FindSubmatch(text), last.FindSubmatch(text)
	if a == nil || b == nil {
		return fmt.Errorf("%s: its console does not say how it booted: %s", m.name, m.console())
	}
	for line := range strings.Lines(string(text)) {
		if i := strings.Index(line, "up="); i >= 0 && strings.Contains(line, "level=") {
			fmt.Printf("   %s  %s\n", m.name, strings.TrimSpace(line[i:]))
		}
		if last.MatchString(line) {
			break
		}
	}
	return nil
}
