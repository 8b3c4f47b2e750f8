package initramfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"loadnode/events"
)

const (
	// pause is how long a message stays before the machine restarts.
	pause = 20 * time.Second
	// panicPause is the kernel's own, seconds: for when this program dies.
	panicPause = "20"
	// clockSlack is how wrong the clock may be where nothing depends on it.
	clockSlack = time.Minute
	// program is this one, in the image.
	program = "/init"
)

// Config is what the first program needs to know.
type Config struct {
	Version string
	// Environ is the environment in which omf-agent is what the assignment says.
	Environ func(a Assignment) []string
}

// Assignment is what a machine is to be: a node of a testbed.
type Assignment struct {
	Servers       []string
	Testbed, Node string
	Address       string
	Credential    *events.Credential
	Debug         bool
}

// Main is the whole life of process 1. It does not return: it restarts the
// machine, unless the agent has halted it.
func Main(cfg Config) {
	log := NewLogger(os.Stderr, false)
	log.Info("imaging system", "version", cfg.Version)
	console, err := run(cfg, log)
	log.Error("the imaging system cannot go on", "err", err)
	if console {
		shell(log)
	}
	log.Error("the machine restarts", "in", pause.String())
	time.Sleep(pause)
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	log.Error("the machine does not restart", "err", err)
	select {}
}

// run boots and looks after the agent until nothing more can be done.
func run(cfg Config, log *slog.Logger) (console bool, err error) {
	if err := mountAll(); err != nil {
		log.Error("not everything is mounted", "err", err)
	}
	// A kernel that stops for ever needs somebody to walk to it.
	if err := os.WriteFile("/proc/sys/kernel/panic", []byte(panicPause), 0); err != nil {
		log.Warn("the kernel would not restart by itself", "err", err)
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return false, err
	}
	p, err := ReadParameters(string(line))
	if err != nil {
		return p.Console, err
	}
	if p.Debug {
		log = NewLogger(os.Stderr, true)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	changed, settled := make(chan struct{}, 1), make(chan struct{})
	plugErr := make(chan error, 1)
	events, err := listenUevents()
	if err != nil {
		return p.Console, err
	}
	modules, err := loader("/")
	if err != nil {
		return p.Console, fmt.Errorf("modules of the image: %w", err)
	}
	log.Debug("modules", "known", modules.Index.Len())
	go func() { // as long as the machine: it waits for what is plugged in
		c := &coldplug{sys: os.DirFS("/sys"), load: modules, log: log, seen: make(map[string]bool)}
		plugErr <- c.plug(events, changed, settled)
	}()
	if p.Console {
		go shell(log)
	}

	n, err := findControl(ctx, p, changed, log)
	if err != nil {
		return p.Console, fmt.Errorf("control interface: %w", err)
	}
	if err := n.use(); err != nil {
		return p.Console, fmt.Errorf("control interface %s: %w", n.device.Name, err)
	}
	log.Info("control network", "interface", n.device.Name, "address", n.address.String())
	wg.Go(func() { n.keep(ctx, log) })

	a, err := assign(ctx, p, n, log)
	if err != nil {
		return p.Console, err
	}
	name := cmp.Or(n.hostname, hostname(a.Node), "node")
	if err := unix.Sethostname([]byte(name)); err != nil {
		log.Warn("the host name cannot be set", "err", err)
	}
	// The agent's first report lists the disks.
	select {
	case <-settled:
	case err := <-plugErr:
		return p.Console, fmt.Errorf("devices: %w", err)
	}
	log.Info("devices are settled")
	return p.Console, tend(cfg.Environ(a), log)
}

// assign finds out what this machine is to be: from the kernel's parameters,
// and what they do not say from the boot service.
func assign(ctx context.Context, p Parameters, n network, log *slog.Logger) (Assignment, error) {
	a := Assignment{
		Servers: p.Servers, Testbed: p.Testbed, Node: p.Node, Address: n.address.Addr().String(), Debug: p.Debug,
	}
	if p.Boot != nil {
		c, err := fetchIdentity(ctx, &http.Client{}, p.Boot, n.device.HardwareAddr.String(), log)
		if err != nil {
			return a, fmt.Errorf("ask %v: %w", p.Boot, err)
		}
		log.Info("configuration", "node", c.Node, "testbed", c.Testbed)
		a.merge(c)
		if err := setClock(c.Time, a.secure(), log); err != nil {
			log.Warn("the clock cannot be set", "err", err)
		}
	}
	if a.Node == "" || len(a.Servers) == 0 {
		return a, errors.New("nobody said which node this is and where its bus is: the kernel needs omf.boot=URL, or omf.node=NAME and omf.server=URL")
	}
	return a, nil
}

// merge takes what the boot service says: it knows the present, the kernel's
// parameters may be those of a menu of long ago.
func (a *Assignment) merge(c events.BootConfig) {
	a.Testbed = cmp.Or(c.Testbed, a.Testbed)
	a.Node = cmp.Or(c.Node, a.Node)
	if len(c.Bus) > 0 {
		a.Servers = c.Bus
	}
	if c.Credential != nil {
		a.Credential = c.Credential
	}
}

// secure reports whether certificates are going to be checked.
func (a *Assignment) secure() bool {
	return a.Credential != nil && a.Credential.CA != "" ||
		slices.ContainsFunc(a.Servers, func(s string) bool { return strings.HasPrefix(s, "tls://") || strings.HasPrefix(s, "wss://") })
}

// setClock takes over the service's time if the clock is far off, or if
// certificates depend on it.
func setClock(now time.Time, secure bool, log *slog.Logger) error {
	if now.IsZero() {
		return nil
	}
	off := time.Until(now)
	if !clockWrong(off, secure) {
		return nil
	}
	log.Info("the clock is set", "off", off.Round(time.Second).String())
	t := unix.NsecToTimespec(now.UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &t)
}

// clockWrong says whether a clock should be set that is so far off.
func clockWrong(off time.Duration, secure bool) bool {
	off = off.Abs()
	return off > clockSlack || secure && off > time.Second
}

// NewLogger logs with the time since the machine's start, as the kernel does.
func NewLogger(to io.Writer, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.String("up", fmt.Sprintf("%.3f", Uptime().Seconds()))
		}
		return a
	}}))
}

// Uptime is how long the machine runs.
func Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Role is what a start of the program is for, by its name and its process:
// the first program of a machine, the kernel's modprobe, or the agent.
func Role(arg0 string, pid int) string {
	switch {
	case arg0 == program && pid == 1:
		return RoleInit
	case filepath.Base(arg0) == RoleModprobe:
		return RoleModprobe
	}
	return RoleAgent
}

// Roles of the program.
const (
	RoleInit     = "init"
	RoleModprobe = "modprobe"
	RoleAgent    = "agent"
)
