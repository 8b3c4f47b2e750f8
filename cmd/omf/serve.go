package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"loadnode/bus/embedded"
	"loadnode/cmd/omf/internal/config"
	"loadnode/frisbeesvc"
	"loadnode/frisbeesvc/catalogue"
	"loadnode/handler"
	"loadnode/handler/netboot/pxelinux"
)

func (a *app) serveCommand() *cobra.Command {
	var size string
	var f simFlags
	c := &cobra.Command{
		Use: "serve", Short: "Be the server, or some roles of it", Args: words(0, "no words"),
		Long: `Serve plays the roles of a server until it is told to end:

  nats     the embedded bus, with its store in STATE/nats
  auth     who may connect to an external bus (deploy/nats)
  handler  jobs, leases, power, inventory
  frisbee  the image catalogue, its HTTP service, the multicast sessions
  bridge   the agents of legacy nodes (OMF's, on TCP port 9006)
  netboot  DHCP, TFTP and HTTP for nodes with boot: {driver: builtin}
  sim      simulated nodes (with --sim)

Without --roles it plays all that make sense, which netboot is not: it answers
machines on --boot-interface, with loaders, kernel and initrd of --boot-dir.
Roles can run in processes of their own: give the others --roles and --nats.

An image directory that is named must exist; STATE/images is made.

Without --inventory there is a generated grid of nodes whose power answers on
the bus: that of --sim, else that of --grid. That is enough for omf sim.

When everything answers it prints one line "ready: NATS-URL HTTP-URL". A bus
that listens beyond this machine demands credentials, and encrypts; those for
operators and services are in STATE/operator.json and STATE/service.json, with
what clients have to trust.`,
		Example: `  omf serve --sim 2x2
  omf serve --roles handler --nats nats://a:4222,nats://b:4222`,
		RunE: func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), size, f) },
	}
	fl := c.Flags()
	for _, s := range []struct{ flag, key, unit string }{
		{"roles", config.KeyRoles, "LIST"},
		{"state", config.KeyState, "DIR"},
		{"images", config.KeyImages, "DIR"},
		{"inventory", config.KeyInventory, "FILE"},
		{"grid", config.KeyGrid, "COLSxROWS"},
		{"nats", config.KeyNATS, "URLS"},
		{"nats-listen", config.KeyNATSListen, "ADDRESS"},
		{"tls", config.KeyTLS, "WHEN"},
		{"tls-cert", config.KeyTLSCert, "FILE"},
		{"tls-key", config.KeyTLSKey, "FILE"},
		{"tls-ca", config.KeyTLSCA, "FILE"},
		{"tls-names", config.KeyTLSNames, "NAMES"},
		{"replicas", config.KeyReplicas, "N"},
		{"auth-users", config.KeyAuthUsers, "FILE"},
		{"http", config.KeyServeHTTP, "ADDRESS"},
		{"bridge-listen", config.KeyBridgeListen, "ADDRESS"},
		{"omf", config.KeyOMF, "WHEN"},
		{"one-group", config.KeyOneGroup, "ON"},
		{"http-base", config.KeyHTTPBase, "URL"},
		{"interface", config.KeyInterface, "ADDRESS"},
		{"group", config.KeyGroup, "ADDRESS"},
		{"port", config.KeyPort, "PORT"},
		{"rate", config.KeyRate, "BITS"},
		{"link-rate", config.KeyLinkRate, "BITS"},
		{"idle", config.KeyIdle, "TIME"},
		{"save-life", config.KeySaveLife, "TIME"},
		{"save-port", config.KeySavePort, "PORT"},
		{"save-dir", config.KeySaveDir, "DIR"},
		{"window", config.KeyWindow, "N"},
		{"stagger", config.KeyStagger, "TIME"},
		{"pxelinux", config.KeyPxelinux, "DIR"},
		{"pxelinux-image", config.KeyPxeImage, "NAME"},
		{"pxelinux-lifetime", config.KeyPxeLifetime, "TIME"},
		{"checkin", config.KeyCheckIn, "TIME"},
		{"join", config.KeyJoin, "TIME"},
		{"stall", config.KeyStall, "TIME"},
		{"silence", config.KeySilence, "TIME"},
		{"leave", config.KeyLeave, "TIME"},
		{"boot-attempts", config.KeyBoots, "N"},
		{"load-attempts", config.KeyLoads, "N"},
		{"sweep", config.KeySweep, "TIME"},
		{"boot-dir", config.KeyBootDir, "DIR"},
		{"boot-dhcp", config.KeyBootDHCP, "MODE"},
		{"boot-interface", config.KeyBootInterface, "NAME"},
		{"boot-listen", config.KeyBootListen, "ADDRESS"},
		{"boot-loader", config.KeyBootLoader, "LOADER"},
		{"boot-base", config.KeyBootBase, "URL"},
		{"boot-bus", config.KeyBootBus, "URLS"},
		{"log", config.KeyLog, "LEVEL"},
	} {
		a.setting(fl, s.flag, "", s.key, s.unit)
	}
	fl.StringVar(&size, "sim", "", "simulate a grid of nodes in this process; their disks are STATE/sim/NODE.disk")
	placeholder(fl, "sim", "COLSxROWS")
	f.register(fl)
	c.MarkFlagsMutuallyExclusive("nats", "nats-listen")
	return c
}

func (a *app) serve(ctx context.Context, size string, f simFlags) error {
	cfg, err := a.serverConfig(size, f)
	if err != nil {
		return err
	}
	err = serve(ctx, cfg, func(at addresses) {
		line := strings.TrimSpace("ready: " + at.nats + " " + at.http)
		a.ready(line, map[string]any{"ready": true, "nats": at.nats, "http": at.http, "roles": cfg.roles, "state": cfg.state})
	})
	var listen *net.OpError
	switch {
	case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
		return nil // told to end
	case errors.Is(err, embedded.ErrPortInUse):
		return &exit{code: exitUnreachable, err: err, hint: "another omf serve, or a NATS server? choose another address with --nats-listen"}
	case errors.As(err, &listen) && listen.Op == "listen":
		return &exit{code: exitUnreachable, err: err, hint: "an address of this machine? see --nats-listen and --http"}
	case errors.Is(err, embedded.ErrStoreInUse), errors.Is(err, errStateInUse):
		return &exit{code: exitUnreachable, err: err, hint: "one server works on a state directory at a time; choose another with --state"}
	case errors.Is(err, catalogue.ErrInUse):
		return &exit{code: exitUnreachable, err: err, hint: "one image service works on an image directory at a time; choose another with --images"}
	case errors.Is(err, frisbeesvc.ErrConfig), errors.Is(err, handler.ErrConfig):
		return &exit{code: exitUsage, err: err}
	}
	return err
}

// serverConfig makes of the settings what a server needs.
func (a *app) serverConfig(size string, f simFlags) (serverConfig, error) {
	var c serverConfig
	fail := func(err error) (serverConfig, error) { return serverConfig{}, err }
	log, err := a.logger()
	if err != nil {
		return fail(err)
	}
	c.log = log
	if c.notify, err = newNotifier(a.getenv, log); err != nil {
		return fail(usagef("%w", err))
	}
	var sim *grid
	if size != "" {
		g, err := parseGrid(size)
		if err != nil {
			return fail(usagef("--sim: %w", err))
		}
		sim = &g
	}
	c.nats, c.natsListen = list(a.get(config.KeyNATS)), a.get(config.KeyNATSListen)
	if c.inventory, err = a.inventory(sim); err != nil {
		return fail(err)
	}
	if c.testbed, err = a.mainTestbed(c.inventory); err != nil {
		return fail(err)
	}
	legacy := len(legacyNodes(c.inventory, c.testbed)) > 0
	if c.roles, err = parseRoles(a.get(config.KeyRoles), len(c.nats) > 0, sim != nil, legacy); err != nil {
		return fail(usagef("%w", err))
	}
	if !c.has(roleNATS) && len(c.nats) == 0 {
		c.nats = a.servers()
	}
	if c.state, err = a.stateDir(); err != nil {
		return fail(err)
	}
	if err := a.imageDir(&c); err != nil {
		return fail(err)
	}
	if file := a.get(config.KeyCredential); file != "" {
		if c.credential, err = readCredential(file); err != nil {
			return fail(usagef("%w", err))
		}
	}
	if c.tls, err = a.tlsConfig(&c); err != nil {
		return fail(err)
	}
	c.authUsers = a.get(config.KeyAuthUsers)
	c.bridgeListen = a.get(config.KeyBridgeListen)
	if c.has(roleNetboot) {
		if c.netboot, err = a.netbootConfig(c.state); err != nil {
			return fail(err)
		}
	}
	if c.omf, err = a.oneOf(config.KeyOMF, "auto", "on", "off"); err != nil {
		return fail(err)
	}
	one, err := a.oneOf(config.KeyOneGroup, "off", "on")
	if err != nil {
		return fail(err)
	}
	c.frisbee.oneGroup = one == "on"
	c.http, c.httpBase = a.get(config.KeyServeHTTP), strings.TrimSuffix(a.get(config.KeyHTTPBase), "/")
	if sim != nil {
		if c.sim, err = f.config(sim.nodes(), filepath.Join(c.state, roleSim)); err != nil {
			return fail(err)
		}
		c.policy = simPolicy(c.sim.boot[1])
	}
	if err := a.numbers(&c); err != nil {
		return fail(err)
	}
	return c, nil
}

// oneOf reads a setting that is one of some words.
func (a *app) oneOf(key string, words ...string) (string, error) {
	v := a.cfg.Get(key)
	if !slices.Contains(words, v.Text) {
		return "", usagef("%s: %q; want one of %s", v.Origin, v.Text, strings.Join(words, ", "))
	}
	return v.Text, nil
}

// imageDir is where the images are. A directory that was named must exist: one
// made for a misspelt name would look like an empty catalogue.
func (a *app) imageDir(c *serverConfig) error {
	v := a.cfg.Get(config.KeyImages)
	if v.Text == "" {
		c.images, c.makeImages = filepath.Join(c.state, "images"), true
		return nil
	}
	c.images = v.Text
	if !c.has(roleFrisbee) {
		return nil
	}
	st, err := os.Stat(c.images)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = errors.New("no such directory")
	case err == nil && !st.IsDir():
		err = errors.New("not a directory")
	}
	if err != nil {
		return &exit{
			code: exitUsage, err: fmt.Errorf("image directory %s (%s): %w", c.images, v.Origin, err),
			hint: "create it, or name another with --images",
		}
	}
	return nil
}

// numbers reads the settings that are not plain text.
func (a *app) numbers(c *serverConfig) error {
	parse := func(key string, read func(string) error) error {
		v := a.cfg.Get(key)
		if v.Text == "" {
			return nil
		}
		if err := read(v.Text); err != nil {
			return usagef("%s %q (%s): %w", key, v.Text, v.Origin, err)
		}
		return nil
	}
	number := func(to *int, low, high int) func(string) error {
		return func(s string) error {
			n, err := strconv.Atoi(s)
			if err != nil || n < low || n > high {
				return fmt.Errorf("want a number from %d to %d", low, high)
			}
			*to = n
			return nil
		}
	}
	address := func(to *netip.Addr) func(string) error {
		return func(s string) error {
			ip, err := netip.ParseAddr(s)
			if err != nil || !ip.Is4() {
				return errors.New("want an IPv4 address")
			}
			*to = ip
			return nil
		}
	}
	span := func(to *time.Duration) func(string) error {
		return func(s string) error {
			d, err := time.ParseDuration(s)
			if err != nil || d <= 0 {
				return errors.New("want a time such as 90s or 5m")
			}
			*to = d
			return nil
		}
	}
	port, savePort := 0, 0
	for _, err := range []error{
		parse(config.KeyInterface, address(&c.frisbee.iface)),
		parse(config.KeyGroup, address(&c.frisbee.group)),
		parse(config.KeyPort, number(&port, 1, 65535)),
		parse(config.KeyReplicas, number(&c.replicas, 1, 5)),
		parse(config.KeyWindow, number(&c.policy.Window, 1, 100000)),
		parse(config.KeyStagger, span(&c.policy.Stagger)),
		parse(config.KeyPxelinux, func(s string) error {
			if !filepath.IsAbs(s) {
				return errors.New("want an absolute path")
			}
			c.pxelinux.Dir = s
			return nil
		}),
		parse(config.KeyPxeImage, func(s string) error { c.pxelinux.Image = s; return pxelinux.CheckImage(s) }),
		parse(config.KeyPxeLifetime, span(&c.pxelinux.Lifetime)),
		parse(config.KeyRate, func(s string) (err error) { c.frisbee.rate, err = parseRate(s); return err }),
		parse(config.KeyLinkRate, func(s string) (err error) { c.frisbee.linkRate, err = parseRate(s); return err }),
		parse(config.KeyIdle, span(&c.frisbee.idle)),
		parse(config.KeySaveLife, span(&c.frisbee.saveLife)),
		parse(config.KeySaveDir, func(s string) error {
			if !filepath.IsAbs(s) {
				return errors.New("want an absolute path")
			}
			c.frisbee.saveDir = s
			return nil
		}),
		parse(config.KeySavePort, number(&savePort, 1, 65535-frisbeesvc.DefaultSavePorts)),
		parse(config.KeyCheckIn, span(&c.policy.CheckIn)),
		parse(config.KeyJoin, span(&c.policy.Join)),
		parse(config.KeyStall, span(&c.policy.Stall)),
		parse(config.KeySilence, span(&c.policy.Silence)),
		parse(config.KeyLeave, span(&c.policy.Leave)),
		parse(config.KeyBoots, number(&c.policy.BootAttempts, 1, 100)),
		parse(config.KeySweep, span(&c.policy.Sweep)),
		parse(config.KeyLoads, number(&c.policy.LoadAttempts, 1, 100)),
	} {
		if err != nil {
			return err
		}
	}
	c.frisbee.port, c.frisbee.savePort = uint16(port), uint16(savePort)
	return nil
}

// parseRate reads bits per second: "100M", "2.5G", "64000".
func parseRate(s string) (int64, error) {
	unit := 1.0
	number := s
	for suffix, u := range map[string]float64{"K": 1e3, "M": 1e6, "G": 1e9} {
		if n, ok := strings.CutSuffix(strings.ToUpper(s), suffix); ok {
			number, unit = n, u
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v*unit >= 8000 && v*unit <= 1e12) {
		return 0, errors.New("want bits per second such as 500M or 2.5G, from 8K to 1000G")
	}
	return int64(v * unit), nil
}
