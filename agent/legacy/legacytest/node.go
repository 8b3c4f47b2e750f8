package legacytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"loadnode/agent/legacy"
	"loadnode/agent/legacy/group"
	"loadnode/agent/legacy/listener"
	"loadnode/internal/freeport"
	"loadnode/transfer/client"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/mcast"
)

// Node is a machine with a legacy agent. Its fields may be set before Start.
type Node struct {
	Address    netip.Addr // in 127/8
	Disk       string     // path of the file that /dev/hda is
	System     string     // what it says it runs; "" says nothing
	Partitions string     // /proc/partitions; "" lists a large hda
	Boot       string     // kernel's boot id; "" has none
	// Frisbee replaces the client: its lines and its wait status.
	Frisbee listener.Program
	Mute    bool // frisbee prints nothing
	// Execute runs commands with netcat in them; nil: the node has none.
	Execute func(ctx context.Context, words []string, print func(stream, line string)) int
	// Saved is imagezip as SAVE_IMAGE runs it; nil: the directory cannot be mounted.
	Saved func(nfs, name, disk string) listener.Program
	// Group opens the agent's end of the multicast transport; nil: it listens on TCP.
	Group func() (group.Conn, error)

	t    testing.TB
	addr string

	power   sync.Mutex // held while the node is switched
	running atomic.Int64

	mu      sync.Mutex
	end     func()
	conns   []net.Conn
	said    []string // commands that were run
	loads   int
	reboots int
}

// Start switches the node on; it is off again at the end of the test at the latest.
func Start(t testing.TB, n *Node) *Node {
	n.t = t
	n.On()
	t.Cleanup(n.Off)
	return n
}

// Port is where the agent listens.
func (n *Node) Port() uint16 { return netip.MustParseAddrPort(n.addr).Port() }

// On switches the node on, on the same port as before.
func (n *Node) On() {
	n.power.Lock()
	defer n.power.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.end != nil {
		return
	}
	cfg, err := n.reachable()
	if err != nil {
		n.t.Errorf("legacy node: %v", err)
		return
	}
	l, err := listener.New(cfg)
	if err != nil {
		n.t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	n.end = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	}
}

// reachable opens what the agent is reached by. n.mu is held.
func (n *Node) reachable() (listener.Config, error) {
	cfg := listener.Config{Machine: (*machine)(n)}
	if n.Group != nil {
		cfg.Name = n.Address.String()
		cfg.Timing = listener.Timing{Heartbeat: 50 * time.Millisecond, Retry: 15 * time.Millisecond}
		var err error
		cfg.Group, err = n.Group()
		return cfg, err
	}
	ln, err := n.listen()
	if err != nil {
		return cfg, err
	}
	cfg.Listener = &gluing{Listener: ln, node: n}
	return cfg, nil
}

// listen opens the port of before. A program that is just being started by
// another test may still hold the socket that was closed, until its exec.
func (n *Node) listen() (ln net.Listener, err error) {
	if n.addr == "" {
		n.addr = netip.AddrPortFrom(n.Address, freeport.TCP(n.t, n.Address.String())).String()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		ln, err = net.Listen("tcp4", n.addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return ln, err
		}
	}
}

// Off cuts the power.
func (n *Node) Off() {
	n.power.Lock()
	defer n.power.Unlock()
	n.mu.Lock()
	end := n.end
	n.end, n.conns = nil, nil
	n.mu.Unlock()
	if end != nil {
		end()
	}
}

// Cut cuts the power, as Off does, and lets the next start be another boot.
func (n *Node) Cut() {
	n.Off()
	n.mu.Lock()
	n.Boot += "x"
	n.mu.Unlock()
}

// Drop cuts the connections of controllers.
func (n *Node) Drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}

// Commands are the words of all programs that were run.
func (n *Node) Commands() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.said)
}

// Loads is how often frisbee was started, Reboots how often the agent was told to reboot.
func (n *Node) Loads() int { n.mu.Lock(); defer n.mu.Unlock(); return n.loads }

// Frisbees is how many clients run.
func (n *Node) Frisbees() int { return int(n.running.Load()) }

// Reboots is how often the agent was told to reboot.
func (n *Node) Reboots() int { n.mu.Lock(); defer n.mu.Unlock(); return n.reboots }

// machine is what the agent acts on.
type machine Node

func (m *machine) Load(group string, port uint16, path string) listener.Program {
	n := (*Node)(m)
	n.mu.Lock()
	n.loads++
	n.mu.Unlock()
	run := n.Frisbee
	if run == nil {
		run = n.load(group, port, path)
	}
	return func(ctx context.Context, print func(stream, line string)) int {
		n.running.Add(1)
		defer n.running.Add(-1)
		return run(ctx, print)
	}
}

// load is the original's client.
func (n *Node) load(group string, port uint16, path string) listener.Program {
	return func(ctx context.Context, print func(stream, line string)) int {
		if path != "/dev/hda" {
			print(legacy.Stderr, "opening output file: No such file or directory")
			return listener.Exit(1)
		}
		if err := n.frisbee(ctx, group, port, print); err != nil {
			print(legacy.Stderr, err.Error())
			return listener.Exit(255)
		}
		return 0
	}
}

// frisbee is the ORBIT client: it prints progress only when the percentage hits its counter, and at the end what it wrote.
func (n *Node) frisbee(ctx context.Context, group string, port uint16, print func(stream, line string)) error {
	g, err := netip.ParseAddr(group)
	if err != nil {
		return err
	}
	conn, err := mcast.Open(mcast.Options{Group: g, Port: port, Local: n.Address})
	if err != nil {
		return err
	}
	defer conn.Close()
	target, err := disk.Open(n.Disk, disk.Options{Create: true})
	if err != nil {
		return err
	}
	defer target.Close()
	in, err := install.New(install.Config{Target: target})
	if err != nil {
		return err
	}
	progress := &orbit{Installer: in, print: print, next: 10}
	c, err := client.New(client.Config{Conn: conn, Installer: progress, Workers: 1, JoinTimeout: time.Hour, StallTimeout: time.Hour})
	if err != nil {
		return err
	}
	progress.chunks = func() int { return c.Progress().Chunks }
	begun := time.Now()
	if _, err := c.Run(ctx); err != nil {
		return err
	}
	result, err := in.Finish(ctx)
	if err != nil && !errors.Is(err, install.ErrIncomplete) {
		return err
	}
	if !n.Mute {
		print(legacy.Stdout, "")
		print(legacy.Stdout, fmt.Sprintf("Left the team after %d seconds on the field!", int(time.Since(begun).Seconds())))
		print(legacy.Stderr, fmt.Sprintf("Wrote %d bytes (%d actual)", result.BytesDescribed, result.BytesWritten))
		print(legacy.Stderr, "0 100 12")
	}
	return nil
}

// orbit prints progress with the fault of the original: small images pass over its marks.
type orbit struct {
	client.Installer
	print  func(stream, line string)
	chunks func() int

	mu         sync.Mutex
	done, next int
}

func (o *orbit) Install(ctx context.Context, index int, chunk []byte) error {
	if err := o.Installer.Install(ctx, index, chunk); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done++
	if all := o.chunks(); all > 0 && o.done*100/all == o.next && o.next < 100 {
		o.print(legacy.Stdout, fmt.Sprintf("Progress: %d%% %.6d %.6d", o.next, 0, all-o.done))
		o.next += 10
	}
	return nil
}

func (m *machine) Save(nfs, name, disk string) (listener.Program, error) {
	if m.Saved != nil {
		return m.Saved(nfs, name, disk), nil
	}
	//lint:ignore ST1005 the words of the original agent
	return nil, errors.New("While mounting /mnt: 8192")
}

func (m *machine) Command(words []string) listener.Program {
	n := (*Node)(m)
	n.mu.Lock()
	n.said = append(n.said, strings.Join(words, " "))
	n.mu.Unlock()
	return func(ctx context.Context, print func(stream, line string)) int {
		text, known := map[string]string{
			"cat /.orbit_image": n.System, "cat /proc/sys/kernel/random/boot_id": n.Boot, "cat /proc/partitions": n.partitions(),
		}[strings.Join(words, " ")]
		switch {
		case n.Execute != nil && slices.Contains(words, "nc"):
			return n.Execute(ctx, words, print)
		case len(words) > 0 && words[0] == "grep":
			print(legacy.Stdout, "Linux version 2.6.25.1")
			if n.Frisbees() > 0 {
				print(legacy.Stdout, "812 (frisbee) R 1 812 811 0 -1")
			}
			return 0
		case len(words) > 0 && words[0] == "shutdown":
			go n.Off()
			return 0
		case known && text != "":
			for line := range strings.Lines(text) {
				print(legacy.Stdout, strings.TrimRight(line, "\n"))
			}
			return 0
		}
		print(legacy.Stderr, strings.Join(words, " ")+": No such file or directory")
		return listener.Exit(1)
	}
}

func (n *Node) partitions() string {
	if n.Partitions != "" {
		return n.Partitions
	}
	return fmt.Sprintf("major minor  #blocks  name\n\n   3        0   %d hda\n   3        1   1024 hda1\n", 80<<20)
}

func (m *machine) Reboot() {
	n := (*Node)(m)
	n.mu.Lock()
	n.reboots++
	n.mu.Unlock()
	go n.Cut()
}
