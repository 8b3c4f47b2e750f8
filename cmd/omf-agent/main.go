package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"loadnode/agent"
	"loadnode/agent/initramfs"
	"loadnode/agent/legacy/group"
	"loadnode/agent/legacy/host"
	"loadnode/agent/legacy/listener"
	"loadnode/bus"
)

// Exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 5
)

// memoryLimit is where the garbage collector begins to work harder, bytes: an
// imaging system has little, and it is where the disk cache lives.
const memoryLimit = 100 << 20

// version is set by the linker.
var version = "dev"

func main() {
	switch initramfs.Role(os.Args[0], os.Getpid()) {
	case initramfs.RoleInit:
		initramfs.Main(initramfs.Config{Version: version, Environ: environment})
	case initramfs.RoleModprobe:
		os.Exit(initramfs.Modprobe(os.Args[1:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	s, err := parse(args, getenv, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "omf-agent: %v\n", err)
		return exitUsage
	case s.version:
		fmt.Fprintln(stdout, "omf-agent", version)
		return 0
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	level := slog.LevelInfo
	if s.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if s.child {
		log = initramfs.NewLogger(stderr, s.debug)
	}
	if err := serve(ctx, s, log); err != nil {
		fmt.Fprintf(stderr, "omf-agent: %v\n", err)
		if errors.Is(err, bus.ErrUnreachable) || errors.Is(err, bus.ErrDenied) {
			return exitUnreachable
		}
		return exitFailed
	}
	return 0
}

// serve is the agent on the bus, for legacy controllers, or both, until ctx ends or one of them fails.
func serve(ctx context.Context, s settings, log *slog.Logger) error {
	machine := &agent.LinuxMachine{
		RAMSystem: s.imaging, Local: s.address, AllowRegular: s.allowRegular,
		Syscall: s.rebootSyscall || os.Getpid() == 1,
	}
	if s.legacyListen == "" {
		return serveBus(ctx, s, machine, log)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := listener.Config{Machine: &host.Machine{Machine: machine, Memory: s.memory << 20}, Logger: log}
	var err error
	if strings.HasPrefix(s.legacyListen, group.Scheme) {
		err = listenOnGroups(ctx, &cfg, s, machine.Address())
	} else {
		cfg.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp4", s.legacyListen)
	}
	if err != nil {
		return err
	}
	legacy, err := listener.New(cfg)
	if err != nil {
		return err
	}
	log.Info("legacy controllers are served", "address", s.legacyListen)
	if s.nats == natsNone {
		return legacy.Run(ctx)
	}
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- legacy.Run(ctx)
	}()
	err = serveBus(ctx, s, machine, log)
	cancel()
	return errors.Join(err, <-done)
}

// listenOnGroups has the agent meet its controllers on the multicast transport.
func listenOnGroups(ctx context.Context, cfg *listener.Config, s settings, address string) error {
	pair, err := group.Parse(s.legacyListen)
	if err != nil {
		return fmt.Errorf("--legacy-listen: %w", err)
	}
	local, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("--legacy-listen %s: the own IPv4 address is not known; give it with --address", s.legacyListen)
	}
	cfg.Name, cfg.Heard = local.String(), pair.Agents
	if s.imaging {
		cfg.System = "pxe:" + version
	}
	cfg.Group, err = group.OpenAgent(ctx, pair, local)
	return err
}

// serveBus is the agent on the bus: in the imaging system one that obeys
// commands, elsewhere a resident.
func serveBus(ctx context.Context, s settings, machine agent.Machine, log *slog.Logger) error {
	conn, err := bus.Connect(ctx, bus.Config{
		URLs: s.urls(), Name: "omf-agent " + s.node, Credential: s.credential, Logger: log,
		Timeout: s.timeout, Wait: s.timeout == 0,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end before the bus was there
		}
		return err
	}
	defer conn.Close()
	if !s.imaging {
		return reside(ctx, s, conn, machine, log)
	}
	a, err := agent.New(agent.Config{
		Testbed: s.testbed, Node: s.node, Boot: s.boot, Version: version, Conn: s.watched(conn, log),
		Machine: machine,
		HTTP:    &http.Client{Timeout: s.httpTimeout},
		Logger:  log, Memory: s.memory << 20,
	})
	if err != nil {
		return err
	}
	log.Info("agent runs", "node", s.node, "testbed", s.testbed, "boot", s.boot)
	return a.Run(ctx)
}

// reside is the agent on the node's own disk.
func reside(ctx context.Context, s settings, conn *bus.Conn, machine agent.Leaver, log *slog.Logger) error {
	a, err := agent.NewResident(agent.ResidentConfig{
		Testbed: s.testbed, Node: s.node, Boot: s.boot, Version: version, Conn: conn, Machine: machine, Logger: log,
	})
	if err != nil {
		return err
	}
	log.Info("resident agent runs: it reboots and halts this machine", "node", s.node, "testbed", s.testbed, "boot", s.boot)
	if err = a.Run(ctx); errors.Is(err, bus.ErrDenied) {
		err = fmt.Errorf("%w; outside of the imaging system the credential has to be that of a resident: omf nodes credential %s", err, s.node)
	}
	return err
}
