package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"loadnode/agent/sim"
	"loadnode/bus"
	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/demo"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/transfer/imagezip"
	"loadnode/transfer/ndz"
)

// demoImage is the name of the demonstration's image.
const demoImage = "demo.ndz"

// maxDemoNodes bounds the demonstration: each node has a disk in the
// directory for temporary files.
const maxDemoNodes = 200

type demoFlags struct {
	nodes int
	keep  bool
	// embedded makes the image of the embedded filesystem.
	embedded bool
	sim      simFlags
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use: "demo", Short: "Load simulated nodes on this machine and compare their disks", Args: words(0, "no words"),
		Long: `Demo is the whole system in one process, without root and without hardware: an
embedded bus that keeps its state on disk, the handler, the image service, an
image made on the spot from a real ext4 filesystem, and simulated nodes that run
the real agent and the real data plane over loopback multicast.

Every disk is then compared byte for byte: with the filesystem where the image
has data, and as a whole with an independent restore of the image. The exit code
is 0 when all nodes were loaded and compare equal, else 1.`,
		Example: `  omf demo
  omf demo --nodes 16 --fault loss=2:n1-1 --fault writeerr=1048576:n2-1`,
		RunE: func(c *cobra.Command, _ []string) error { return a.demo(c.Context(), f) },
	}
	fl := c.Flags()
	fl.IntVar(&f.nodes, "nodes", 8, fmt.Sprintf("simulated nodes, 1 to %d", maxDemoNodes))
	placeholder(fl, "nodes", "N")
	fl.BoolVar(&f.keep, "keep", false, "keep the directory with the state, the image and the disks")
	fl.BoolVar(&f.embedded, "embedded", false, "take the embedded filesystem even where mke2fs is installed")
	f.sim.register(fl)
	a.setting(fl, "rate", "", config.KeyRate, "BITS")
	return c
}

// demoResult is the object that -o json prints on the last line.
type demoResult struct {
	Nodes       int     `json:"nodes"`
	OK          int     `json:"ok"`          // loaded, and equal
	Failed      int     `json:"failed"`      // the others
	Verified    int     `json:"verified"`    // disks compared equal
	ImageBytes  int64   `json:"image_bytes"` // of the image file, compressed
	SentBytes   int64   `json:"sent_bytes"`  // data blocks that left the image service
	Seconds     float64 `json:"seconds"`     // of all
	LoadSeconds float64 `json:"load_seconds"`
	DataBytes   int64   `json:"data_bytes"` // on each disk
	DiskBytes   int64   `json:"disk_bytes"` // of the filesystem
	Filesystem  string  `json:"filesystem"` // mke2fs or embedded
	Job         string  `json:"job"`
	Outcome     string  `json:"outcome"`
	Exit        int     `json:"exit"`
	// Failures are the nodes that are not ok.
	Failures []events.NodeResult `json:"failures,omitempty"`
	Dir      string              `json:"dir,omitempty"` // kept
}

// demoGrid spreads n nodes: two rows where that comes out even.
func demoGrid(n int) grid {
	if n%2 == 0 {
		return grid{n / 2, 2}
	}
	return grid{n, 1}
}

func (a *app) demo(ctx context.Context, f demoFlags) error {
	if f.nodes < 1 || f.nodes > maxDemoNodes {
		return usagef("--nodes %d: want 1 to %d", f.nodes, maxDemoNodes)
	}
	dir, err := os.MkdirTemp(a.getenv("TMPDIR"), "omf-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if !f.keep {
		defer os.RemoveAll(dir)
	}
	d := &demonstration{app: a, dir: dir, began: a.now(), grid: demoGrid(f.nodes)}
	if f.keep {
		d.result.Dir = dir
	}
	err = d.run(ctx, f)
	if err != nil && ctx.Err() != nil {
		return quietly(exitInterrupted)
	}
	return err
}

// demonstration is one run of omf demo.
type demonstration struct {
	app     *app
	dir     string
	began   time.Time
	grid    grid
	regions []demo.Region
	job     *display.Job
	result  demoResult
}

func (d *demonstration) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demonstration) say(format string, args ...any) {
	if !d.app.quiet {
		fmt.Fprintf(d.app.stderr, format+"\n", args...)
	}
}

func (d *demonstration) run(ctx context.Context, f demoFlags) error {
	cfg, err := d.config(f)
	if err != nil {
		return err
	}
	if err := d.image(ctx, f); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := d.load(ctx, cfg); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := d.compare(ctx, cfg.sim); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return d.report()
}

// config is a server with everything in it, on free ports.
func (d *demonstration) config(f demoFlags) (serverConfig, error) {
	log, err := d.app.logger()
	if err != nil {
		return serverConfig{}, err
	}
	if d.app.cfg.Get(config.KeyLog).Origin == config.OriginDefault {
		log = quietLogger(d.app.stderr)
	}
	c := serverConfig{
		roles: []string{roleNATS, roleHandler, roleFrisbee, roleSim}, testbed: inventory.DefaultTestbed, inventory: inventory.Sim(d.grid.columns, d.grid.rows),
		state: d.path("state"), images: d.path("images"), http: "127.0.0.1:0", log: log,
		frisbee: frisbeeConfig{iface: netip.AddrFrom4([4]byte{127, 0, 0, 1})},
	}
	if c.frisbee.group, c.frisbee.port, err = privateSessions(); err != nil {
		return serverConfig{}, fmt.Errorf("demo: %w", err)
	}
	if c.sim, err = f.sim.config(d.grid.nodes(), d.path("disks")); err != nil {
		return serverConfig{}, err
	}
	for _, fault := range c.sim.faults {
		for _, n := range fault.Nodes {
			if !slices.Contains(c.sim.nodes, n) {
				return serverConfig{}, usagef("--fault %s: there is no node %s; they are %s … %s", fault, n, c.sim.nodes[0], c.sim.nodes[len(c.sim.nodes)-1])
			}
		}
	}
	c.policy = simPolicy(c.sim.boot[1])
	if v := d.app.cfg.Get(config.KeyRate); v.Text != "" {
		if c.frisbee.rate, err = parseRate(v.Text); err != nil {
			return serverConfig{}, usagef("rate %q (%s): %w", v.Text, v.Origin, err)
		}
	}
	return c, nil
}

// privateSessions chooses multicast addresses that nothing else on this
// machine is likely to use: two sessions on one address would hear each other.
func privateSessions() (group netip.Addr, port uint16, err error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return group, 0, fmt.Errorf("find a free UDP port: %w", err)
	}
	defer c.Close()
	n := c.LocalAddr().(*net.UDPAddr).Port // a free one: different for each process that asks at a time
	var b [2]byte
	rand.Read(b[:])
	// Sessions take the ports from here on.
	return netip.AddrFrom4([4]byte{239, 192 + b[0]%4, b[1], 0}), uint16(min(n, 60000)), nil
}

// image makes the filesystem, the image of it, and its independent restore.
func (d *demonstration) image(ctx context.Context, f demoFlags) error {
	if err := os.Mkdir(d.path("images"), 0o755); err != nil {
		return err
	}
	var files []string
	if exe, err := os.Executable(); err == nil {
		files = append(files, exe)
	}
	how, err := demo.Filesystem(ctx, d.path("source.ext4"), demo.Options{Seed: f.sim.seed, Files: files, Embedded: f.embedded})
	if err != nil {
		return err
	}
	image := filepath.Join(d.path("images"), demoImage)
	if err := capture(ctx, d.path("source.ext4"), image); err != nil {
		return err
	}
	if d.regions, err = demo.Restore(image, d.path("restored")); err != nil {
		return err
	}
	source, err := os.Stat(d.path("source.ext4"))
	if err != nil {
		return err
	}
	packed, err := os.Stat(image)
	if err != nil {
		return err
	}
	r := &d.result
	r.Filesystem, r.DiskBytes, r.ImageBytes = how, source.Size(), packed.Size()
	for _, reg := range d.regions {
		r.DataBytes += reg.Size
	}
	d.say("image: ext4 of %s (%s), %s of data, %s compressed, in %.1fs", display.Bytes(r.DiskBytes), how,
		display.Bytes(r.DataBytes), display.Bytes(r.ImageBytes), d.app.now().Sub(d.began).Seconds())
	return nil
}

// capture writes the image of a filesystem.
func capture(ctx context.Context, source, image string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(image)
	if err != nil {
		return err
	}
	defer out.Close()
	opts := imagezip.Options{Kind: imagezip.Ext, Level: ndz.DefaultLevel}
	if _, err := imagezip.Capture(ctx, io.NewSectionReader(in, 0, st.Size()), out, opts); err != nil {
		return fmt.Errorf("capture %s: %w", source, err)
	}
	return out.Close()
}

// load runs the server for the time of one job.
func (d *demonstration) load(ctx context.Context, cfg serverConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	up := make(chan addresses, 1)
	group.Go(func() error { return serve(ctx, cfg, func(at addresses) { up <- at }) })
	group.Go(func() error {
		defer cancel()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(readyTimeout):
			return fmt.Errorf("the server is not ready after %s", readyTimeout)
		case at := <-up:
			d.say("server: %s %s, %d simulated nodes", at.nats, at.http, len(cfg.sim.nodes))
			return d.submit(ctx, at)
		}
	})
	err := group.Wait()
	if err == nil && d.job == nil {
		err = context.Cause(ctx)
	}
	return err
}

func (d *demonstration) submit(ctx context.Context, at addresses) error {
	conn, err := bus.Connect(ctx, bus.Config{URLs: []string{at.nats}, Name: "omf demo"})
	if err != nil {
		return err
	}
	defer conn.Close()
	a := d.app
	id, err := newID(a.now())
	if err != nil {
		return err
	}
	j, follow := a.job(conn, id)
	follow.testbed, follow.owned = inventory.DefaultTestbed, true
	err = follow.request(ctx, loadWish(events.LoadRequest{
		Nodes: "all", Image: demoImage, Verify: events.VerifyReadback, Requester: who(),
	}))
	if errors.Is(err, errDetached) {
		return context.Canceled
	}
	if err != nil {
		return err
	}
	var state events.FrisbeeState
	if err := conn.Request(ctx, events.FrisbeeSubject(follow.testbed, events.FrisbeeStatus), events.Empty{}, &state); err != nil {
		return fmt.Errorf("ask the image service what it sent: %w", err)
	}
	d.result.SentBytes = state.BlocksSent * 1024
	d.job = j
	return nil
}

// compare compares the disk of every node that says that it is loaded.
func (d *demonstration) compare(ctx context.Context, nodes *simConfig) error {
	j, r := d.job, &d.result
	r.Job, r.Nodes = j.ID, len(nodes.nodes)
	if j.Rejected != nil {
		return &exit{code: codeOf(j.Rejected), err: fmt.Errorf("the load was refused: %w", j.Rejected), hint: j.Rejected.Hint}
	}
	r.Outcome, r.LoadSeconds = string(j.Result.Outcome), j.Took().Seconds()
	began := d.app.now()
	for _, n := range j.Result.Results {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !n.OK {
			r.Failures = append(r.Failures, n)
			continue
		}
		_, err := demo.Compare(sim.DiskPath(nodes.dir, n.Node), d.path("source.ext4"), d.path("restored"), d.regions)
		if err != nil {
			n.OK, n.Class, n.Error = false, events.ClassVerify, "reported as loaded, and it is not: "+err.Error()
			n.Hint = "this node lied, or there is a fault in loadnode: please report it"
			r.Failures = append(r.Failures, n)
			continue
		}
		r.Verified++
	}
	r.OK, r.Failed = r.Verified, r.Nodes-r.Verified
	d.say("compared: %d disks equal, %s each, in %.1fs", r.Verified, display.Bytes(r.DiskBytes), d.app.now().Sub(began).Seconds())
	return nil
}

func (d *demonstration) report() error {
	r := &d.result
	r.Seconds = d.app.now().Sub(d.began).Seconds()
	if r.Failed > 0 {
		r.Exit = exitFailed
	}
	if d.app.output != "text" {
		if err := d.app.printJSON(r); err != nil {
			return err
		}
		return quietly(r.Exit)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d of %d nodes loaded and equal in %.1fs (load %.1fs)\n", r.OK, r.Nodes, r.Seconds, r.LoadSeconds)
	fmt.Fprintf(&b, "image %s, sent %s: %.2f times the image for %d nodes\n", display.Bytes(r.ImageBytes), display.Bytes(r.SentBytes),
		float64(r.SentBytes)/float64(max(r.ImageBytes, 1)), r.Nodes)
	if err := display.Failures(&b, r.Failures, d.app.columns()); err != nil {
		return err
	}
	if r.Dir != "" {
		fmt.Fprintf(&b, "kept: %s\n", r.Dir)
	}
	if _, err := d.app.stdout.Write(b.Bytes()); err != nil {
		return err
	}
	return quietly(r.Exit)
}
