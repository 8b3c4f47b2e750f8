package initramfs

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"loadnode/agent/initramfs/module"
)

// claimer loads the drivers that claim a device. *module.Loader is one.
type claimer interface {
	Claim(modalias string) (int, error)
}

// coldplug loads the drivers of the devices that are there, each kind once.
type coldplug struct {
	sys  fs.FS // /sys
	load claimer
	log  *slog.Logger
	seen map[string]bool
}

// scan looks at all devices and loads the drivers of those not seen before.
// It returns how many modules came new into the kernel: they may have brought
// further devices.
func (c *coldplug) scan() (int, error) {
	aliases, err := modaliases(c.sys)
	if err != nil {
		return 0, err
	}
	loaded := 0
	for _, a := range aliases {
		if c.seen[a] {
			continue
		}
		c.seen[a] = true
		n, err := c.load.Claim(a)
		loaded += n
		if err != nil {
			// A driver that does not want a device it claims is common.
			c.log.Debug("driver not loaded", "device", a, "err", err)
		}
	}
	return loaded, nil
}

// modaliases are what devices say they are, network cards first: the address
// takes longest.
func modaliases(sys fs.FS) ([]string, error) {
	var found []string
	buses, err := fs.ReadDir(sys, "bus")
	if err != nil {
		return nil, err
	}
	for _, b := range buses {
		dir := path.Join("bus", b.Name(), "devices")
		devices, err := fs.ReadDir(sys, dir)
		if err != nil {
			continue // a bus may go while it is looked at
		}
		for _, d := range devices {
			text, err := fs.ReadFile(sys, path.Join(dir, d.Name(), "modalias"))
			if a := strings.TrimSpace(string(text)); err == nil && a != "" {
				found = append(found, a)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(found), nil
}

// rank orders by what is waited for longest.
func rank(modalias string) int {
	switch {
	case strings.HasPrefix(modalias, "pci:") && strings.Contains(modalias, "bc02sc"), strings.HasPrefix(modalias, "virtio:d00000001"):
		return 0
	case strings.HasPrefix(modalias, "virtio:"):
		return 1
	}
	return 2
}

// uevents is a socket on which the kernel says what came and went.
type uevents struct{ fd int }

func listenUevents() (*uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &uevents{fd}, nil
}

// wait returns after the next event, and after those that came with it. Events
// that were lost because nobody listened in time count as one.
func (u *uevents) wait() error {
	if err := u.read(0); err != nil {
		return err
	}
	for u.read(unix.MSG_DONTWAIT) == nil {
	}
	return nil
}

// pending says whether an event is waiting.
func (u *uevents) pending() bool {
	p := []unix.PollFd{{Fd: int32(u.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

func (u *uevents) read(flags int) error {
	var buf [8192]byte
	for {
		_, _, err := unix.Recvfrom(u.fd, buf[:], flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		return err
	}
}

// plug loads drivers for ever. settled is closed when a look at all devices
// found nothing new and no event was waiting; changed gets a word after each
// look.
func (c *coldplug) plug(events *uevents, changed chan<- struct{}, settled chan<- struct{}) error {
	for {
		n, err := c.scan()
		if err != nil {
			return err
		}
		select {
		case changed <- struct{}{}:
		default:
		}
		if n > 0 {
			continue
		}
		if !events.pending() && settled != nil {
			close(settled)
			settled = nil
		}
		if err := events.wait(); err != nil {
			return err
		}
	}
}

// loader is the modules of the running kernel, in the image. A kernel without
// any is possible.
func loader(root string) (*module.Loader, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, os.NewSyscallError("uname", err)
	}
	l := &module.Loader{Index: &module.Index{}, Dir: path.Join(root, "lib/modules", unix.ByteSliceToString(u.Release[:]))}
	for name, read := range map[string]func(f *os.File) error{
		"modules.dep":   func(f *os.File) error { return l.Index.ReadDep(f) },
		"modules.alias": func(f *os.File) error { return l.Index.ReadAlias(f) },
	} {
		f, err := os.Open(path.Join(l.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = read(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Modprobe does what the kernel asks of /sbin/modprobe: load what has a name
// or claims a service, such as a filesystem. It returns an exit code.
func Modprobe(args []string) int {
	l, err := loader("/")
	if err != nil {
		return 1
	}
	code := 0
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		if _, ok := l.Index.Lookup(a); ok {
			err = l.Load(a)
		} else {
			_, err = l.Claim(a)
		}
		if err != nil {
			code = 1
		}
	}
	return code
}
