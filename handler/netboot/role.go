package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/netboot/dhcp"
	"loadnode/handler/netboot/script"
	"loadnode/handler/netboot/tftp"
)

// ErrConfig is wrapped by every error of New.
var ErrConfig = errors.New("netboot configuration")

// ErrDelivered is returned by Credentials when the credential of this boot was
// handed out before.
var ErrDelivered = errors.New("the credential of this boot was delivered already")

// errStranger is the reason for refusing who is not who it says.
var errStranger = errors.New("refused")

// Credentials makes the credential that a node gets for one boot.
type Credentials interface {
	// Issue is called once for each request of a node's configuration, also for
	// those from another address than the node's own: it refuses them itself,
	// so that it can raise the alarm, and what it returned is thrown away. It
	// returns an error that wraps ErrDelivered, or an *events.Error with
	// CodeConflict, when the credential was handed out before.
	Issue(ctx context.Context, testbed, node, mac string, from netip.Addr) (events.Credential, error)
}

// Files are the names of the imaging system's files in the boot directory, or
// in the directory there that a node's boot: {image: …} names.
type Files struct{ Kernel, Initrd string }

// DefaultFiles are what make initramfs writes.
func DefaultFiles() Files { return Files{Kernel: "kernel", Initrd: "initrd"} }

// Config is what the role needs.
type Config struct {
	Inventory   *inventory.Inventory
	Conn        *bus.Conn // with the rights of a service
	Dir         string    // boot directory: loaders, kernel, initrd; must exist
	Base        string    // of the HTTP routes, as nodes reach them
	Bus         []string  // URLs of the bus, as nodes reach it
	Credentials Credentials
	Files       Files             // empty names: the defaults
	DHCP        *dhcp.Config      // nil: off; Lookup and Base are filled in
	DHCPSockets []dhcp.Socket     // owned by Run
	TFTP        net.PacketConn    // nil: off; owned by Run
	Options     map[string]string // for BootConfig
	Clock       func() time.Time  // nil: time.Now
	Logger      *slog.Logger      // nil: none
}

// Role is the boot service of a testbed's network.
type Role struct {
	cfg    Config
	conn   *bus.Conn
	log    *slog.Logger
	clock  func() time.Time
	nodes  *nodes
	state  *state
	stages stages
	chains chains
	root   *os.Root
	dhcp   *dhcp.Server
	tftp   *tftp.Server
	ready  chan struct{}
	limit  limiter

	mu     sync.Mutex
	counts map[string]int64
}

// New makes the role; Run starts it, Close gives the boot directory back.
func New(cfg Config) (*Role, error) {
	if cfg.Inventory == nil || cfg.Conn == nil || cfg.Credentials == nil || len(cfg.Bus) == 0 || !strings.HasPrefix(cfg.Base, "http://") {
		return nil, fmt.Errorf("%w: inventory, connection, credentials, the URL of the bus and the base of HTTP (http://…) are required", ErrConfig)
	}
	d := DefaultFiles()
	if cfg.Files.Kernel == "" {
		cfg.Files.Kernel = d.Kernel
	}
	if cfg.Files.Initrd == "" {
		cfg.Files.Initrd = d.Initrd
	}
	r := &Role{
		cfg: cfg, conn: cfg.Conn, log: cfg.Logger, clock: cfg.Clock, state: newState(), stages: stages{seen: map[key]*way{}},
		ready: make(chan struct{}), counts: map[string]int64{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	var err error
	if r.nodes, err = index(cfg.Inventory); err != nil {
		return nil, err
	}
	if cfg.DHCP != nil {
		c := *cfg.DHCP
		c.Base, c.Lookup = cfg.Base, r.lookup
		if r.dhcp, err = dhcp.New(c); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if r.root, err = os.OpenRoot(cfg.Dir); err != nil {
		return nil, fmt.Errorf("%w: boot directory: %w", ErrConfig, err)
	}
	if cfg.TFTP != nil {
		if r.tftp, err = tftp.New(tftp.Config{Root: r.root, Make: r.pxelinux, Asked: r.fetching, Ended: r.fetched}); err != nil {
			r.root.Close()
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return r, nil
}

// Close gives the boot directory back, after Run has ended.
func (r *Role) Close() { r.root.Close() }

// Ready is closed when the log is read: from then on nodes are answered.
func (r *Role) Ready() <-chan struct{} { return r.ready }

// Counters are what was refused, by reason, and how DHCP answered.
func (r *Role) Counters() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

func (r *Role) count(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
}

// Run follows the log and answers until ctx ends.
func (r *Role) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.follow(ctx) })
	if r.dhcp != nil {
		group.Go(func() error { return r.dhcp.Serve(ctx, r.cfg.DHCPSockets, r.asked) })
	}
	if r.tftp != nil {
		group.Go(func() error { return r.tftp.Serve(ctx, r.cfg.TFTP) })
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// follow keeps the projection.
func (r *Role) follow(ctx context.Context) error {
	if err := r.conn.AwaitStreams(ctx); err != nil {
		return fmt.Errorf("netboot: %w", err)
	}
	err := r.conn.Watch(ctx, bus.WatchConfig{
		Stream: bus.StreamFacts, Filters: []string{events.AllJobFacts},
		CaughtUp: func() {
			boots := r.state.caughtUp()
			r.log.Info("netboot has read the log", "booting", len(boots))
			r.resume(ctx, boots)
			close(r.ready)
		},
	}, func(m bus.Message) error {
		if m.Err != nil {
			r.count("facts_undecodable")
			return nil
		}
		d, err := events.Decode(m.Event)
		if err != nil {
			return nil // of a later version: nothing that boots depends on
		}
		r.take(m.Address, m.Event.Time(), d)
		return nil
	})
	return err
}

// take folds a fact and tells the stages that follow from it.
func (r *Role) take(a events.Address, at time.Time, d events.Data) {
	b, began := r.state.take(a, at, d)
	if !r.state.known() {
		return
	}
	n := r.node(key{a.Testbed, a.Node})
	switch {
	case n == nil:
	case began:
		r.stages.forget(func(k key) bool { _, ok := r.state.of(k); return ok })
		r.saw(n, events.StageArmed, "", "")
	case b.up:
		r.saw(n, events.StageAgent, "", "")
	}
}

// node is a node that is led from here, nil for others.
func (r *Role) node(k key) *node {
	tb, ok := r.cfg.Inventory.Testbed(k.testbed)
	if !ok {
		return nil
	}
	n, ok := tb.Node(k.node)
	if !ok || n.MAC == "" {
		return nil
	}
	if m := r.nodes.macs[n.MAC]; m != nil && m.led {
		return m
	}
	return nil
}

// lookup tells the DHCP service which machines there are.
func (r *Role) lookup(mac string) (dhcp.Host, bool) {
	n, ok := r.nodes.macs[mac]
	if !ok {
		return dhcp.Host{}, false
	}
	return dhcp.Host{Name: n.Name, IP: n.IP, Boot: n.led, Chain: n.led && n.Boot.Chain && !r.chains.on(n.key, r.clock())}, true
}

// asked looks at what became of a DHCP packet.
func (r *Role) asked(a dhcp.Ask, err error) {
	r.count("dhcp_" + string(a.Outcome))
	switch {
	case a.Outcome == dhcp.Unknown:
		r.warn("dhcp request of an unknown MAC", "mac", a.MAC, "arch", a.Arch)
	case a.Outcome == dhcp.Declined:
		r.warn("a node found its address in use", "node", a.Host.Name, "mac", a.MAC, "ip", a.Host.IP)
	case a.Outcome == dhcp.Refused:
		r.warn("a node asked for another address than its own", "node", a.Host.Name, "mac", a.MAC, "ip", a.Host.IP)
	case err != nil:
		r.warn("dhcp answer not sent", "node", a.Host.Name, "to", a.To, "err", err)
	}
	if n := r.nodes.macs[a.MAC]; n != nil && n.led && a.File != "" {
		r.saw(n, events.StageDHCP, a.Arch, a.File)
	}
}

// fetching and fetched look at files that are sent by TFTP.
func (r *Role) fetching(name string, from netip.Addr) {
	r.log.Debug("tftp", "file", name, "from", from)
}

func (r *Role) fetched(name string, from netip.Addr, size int64, err error) {
	if err != nil {
		r.warn("tftp transfer broke off", "file", name, "from", from, "bytes", size, "err", err)
		return
	}
	if n := r.nodes.ips[from]; n != nil && n.led && !strings.HasPrefix(name, pxelinuxDir) {
		r.saw(n, events.StageTFTP, "", name)
		if n.Boot.Chain {
			r.chains.begin(n.key, r.clock())
		}
	}
}

// pxelinuxDir is where pxelinux looks for its configuration.
const pxelinuxDir = "pxelinux.cfg/"

// pxelinux makes the configuration of a node: it is asked for as
// pxelinux.cfg/01-<mac>, after a name with the machine's UUID.
func (r *Role) pxelinux(name string, from netip.Addr) ([]byte, bool, error) {
	dashed, ok := strings.CutPrefix(name, pxelinuxDir+"01-")
	if !ok {
		return nil, false, nil
	}
	n, err := r.nodes.who(strings.ReplaceAll(strings.ToLower(dashed), "-", ":"), from)
	if err != nil {
		r.refused(name, from, err)
		return nil, false, errStranger
	}
	if !r.state.known() {
		return nil, false, errors.New("the log is not read yet, ask again")
	}
	r.chains.end(n.key)
	r.saw(n, events.StageScript, "", name)
	what, text := "disk", script.PxelinuxDisk()
	if _, ok := r.state.of(n.key); ok {
		what, text = "imaging", script.Pxelinux(r.boot(n))
	}
	r.log.Debug("boot script", "start", what, "node", n.node, "from", from)
	return []byte(text), true, nil
}

// boot is what a script says of a node.
func (r *Role) boot(n *node) script.Boot {
	return script.Boot{Testbed: n.testbed, Node: n.node, MAC: n.MAC, Base: r.cfg.Base, Server: r.cfg.Bus[0], Args: n.Boot.Args}
}

// refused counts and logs a request of somebody who is not who it says.
func (r *Role) refused(what string, from netip.Addr, err error) {
	r.count("refused")
	r.warn("boot request refused", "what", what, "from", from, "err", err)
}

// warn logs what anybody on the network can bring about, some of it.
func (r *Role) warn(msg string, args ...any) {
	if left, ok := r.limit.allow(msg, r.clock()); ok {
		if left > 0 {
			args = append(slices.Clone(args), "more_like_this", left)
		}
		r.log.Warn(msg, args...)
	}
}
