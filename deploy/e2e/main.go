package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const insideFlag = "-inside" // of the second start, in the namespaces

func main() {
	if len(os.Args) == 5 && os.Args[1] == "-power" {
		if err := askPower(os.Args[2], os.Args[3], os.Args[4], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if a := os.Args; len(a) == 6 && a[1] == strangerFlag {
		err = beStranger(ctx, a[2], a[3], a[4], a[5], os.Stdin, os.Stdout)
	} else {
		err = start(ctx, a[1:])
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	omf, imaging, guest, work string
	only                      []string
	inside                    bool
}

// scenes are what can be gone through alone. All but the first are left with a
// machine that was loaded, and ran from its disk.
var scenes = []string{"load", "save", "outage", "after", "trust", "loader"}

// wants says whether a scene is to be gone through.
func (s settings) wants(scene string) bool { return len(s.only) == 0 || slices.Contains(s.only, scene) }

func start(ctx context.Context, args []string) error {
	var s settings
	f := flag.NewFlagSet("e2e", flag.ContinueOnError)
	f.StringVar(&s.omf, "omf", "bin/omf", "`program` to be tested")
	f.StringVar(&s.imaging, "imaging", "bin/imaging", "`directory` with kernel and initrd of the imaging system")
	f.StringVar(&s.guest, "guest", "bin/imaging/guest", "`directory` with kernel and initrd of the system on the image; its init is beside it, with .init at the end")
	f.StringVar(&s.work, "work", "", "`directory` for disks and logs; a new one that is removed on success if empty")
	f.Func("only", "go through these `scenes` alone, separated by commas: "+strings.Join(scenes, ", "), func(v string) error {
		s.only = strings.Split(v, ",")
		for _, scene := range s.only {
			if !slices.Contains(scenes, scene) {
				return fmt.Errorf("there is no scene %q", scene)
			}
		}
		return nil
	})
	f.BoolVar(&s.inside, strings.TrimPrefix(insideFlag, "-"), false, "the namespaces are there (the program says this to itself)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if !s.inside {
		return enter(ctx, args)
	}
	// Programs look for themselves in /proc, by their numbers in the namespace.
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		return err
	}
	for _, p := range []*string{&s.omf, &s.imaging, &s.guest} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	own := s.work == ""
	if own {
		dir, err := os.MkdirTemp("", "loadnode-e2e-")
		if err != nil {
			return err
		}
		s.work = dir
	}
	if err := os.MkdirAll(s.work, 0o755); err != nil {
		return err
	}
	err := run(ctx, s)
	if err != nil {
		return fmt.Errorf("%w\nconsoles and logs are in %s", err, s.work)
	}
	if own {
		return os.RemoveAll(s.work)
	}
	return nil
}

// enter starts the program again in namespaces of its own. When it ends, the
// kernel ends all that it started.
func enter(ctx context.Context, args []string) error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, for namespaces and network interfaces")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{insideFlag}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// phases prints what is done and how long it took.
type phases struct {
	out   io.Writer
	begin time.Time
	last  time.Time
}

func newPhases(out io.Writer) *phases {
	now := time.Now()
	return &phases{out, now, now}
}

func (p *phases) done(format string, args ...any) {
	now := time.Now()
	fmt.Fprintf(p.out, "== %-60s %6.1f s (%.1f s in all)\n", fmt.Sprintf(format, args...), now.Sub(p.last).Seconds(), now.Sub(p.begin).Seconds())
	p.last = now
}

// bridge makes the network: a switch with the server's address on it, which
// sends multicast only to those who ask for it.
func bridge(ctx context.Context) error {
	return do(ctx, `link set dev lo up
link add name br0 type bridge stp_state 0 mcast_snooping 1 mcast_query_response_interval 100 mcast_last_member_interval 10
addr add `+server+`/24 dev br0
link set dev br0 up
link set dev br0 type bridge mcast_querier 1
route add 224.0.0.0/4 dev br0
`, "ip", "-batch", "-")
}

// port adds a cable to the switch.
func port(ctx context.Context, name string) error {
	return do(ctx, fmt.Sprintf("tuntap add dev %s mode tap\nlink set dev %s master br0 up\n", name, name), "ip", "-batch", "-")
}

// plug puts the cable of a machine into the switch, or takes it out.
func plug(ctx context.Context, m *machine, in bool) error {
	where := "nomaster"
	if in {
		where = "master br0"
	}
	return do(ctx, fmt.Sprintf("link set dev tap%d %s\n", m.index, where), "ip", "-batch", "-")
}

// do runs a program with something to read.
func do(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Addresses: the server's, and those of the machines above.
const server = "10.78.0.1"

func address(i int) net.IP { return net.IPv4(10, 78, 0, byte(10+i)) }

func hardware(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0x78, 0, byte(i)} }
