package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/mcast"
)

// LinuxMachine is the machine that this process runs on.
type LinuxMachine struct {
	// RAMSystem says that the root filesystem is the imaging system and not on
	// a disk of the node: only then disks are written.
	RAMSystem bool
	// Local is the address on the control network; the zero Addr means the one
	// from which the server of a session is routed.
	Local netip.Addr
	// AllowRegular lets a selector be the path of a regular file. For tests.
	AllowRegular bool
	// Syscall has the kernel halt or reboot at once, after a sync, as PID 1
	// must. Otherwise /sbin/shutdown and /sbin/reboot do it.
	Syscall bool
	// Gate judges disks; the zero Gate is that of this machine.
	Gate disk.Gate
}

func (m *LinuxMachine) gate() disk.Gate {
	if m.Gate.Stat == nil {
		return disk.NewGate()
	}
	return m.Gate
}

// Hardware implements [Machine].
func (m *LinuxMachine) Hardware(context.Context) (events.Hardware, error) {
	var hw events.Hardware
	disks, err := m.gate().List()
	for _, d := range disks {
		hw.Disks = append(hw.Disks, describeDisk(d))
	}
	interfaces, nicErr := net.Interfaces()
	if err == nil {
		err = nicErr
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 {
			hw.NICs = append(hw.NICs, events.NIC{Name: i.Name, MAC: i.HardwareAddr.String(), Address: firstIPv4(i)})
		}
	}
	return hw, err
}

func describeDisk(d disk.Info) events.Disk {
	return events.Disk{
		Path: d.Path, Serial: d.Serial, WWN: d.WWN, Model: d.Model, Size: d.Size, SectorSize: d.SectorSize,
		BusPath: d.PathID, Rotational: d.Rotational, Removable: d.Removable || d.USB,
	}
}

func firstIPv4(i net.Interface) string {
	addrs, err := i.Addrs()
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.To4().String()
		}
	}
	return ""
}

// OpenDisk implements [Machine].
func (m *LinuxMachine) OpenDisk(_ context.Context, selector string, need int64, sectorSize int) (disk.Target, events.Disk, error) {
	info, err := selectDisk(m.gate(), selector)
	if err != nil && m.AllowRegular && strings.HasPrefix(selector, "/") {
		if st, statErr := os.Stat(selector); os.IsNotExist(statErr) || statErr == nil && st.Mode().IsRegular() {
			info, err = disk.Info{Path: selector, SectorSize: 512}, nil
		}
	}
	if err != nil {
		return nil, events.Disk{}, err
	}
	d := describeDisk(info)
	if err := m.gate().Check(info.Path, need, sectorSize, m.AllowRegular); err != nil {
		return nil, d, err
	}
	t, err := disk.Open(info.Path, disk.Options{Create: m.AllowRegular})
	if err != nil {
		return nil, d, err
	}
	// What was opened may be another disk than the one that was judged.
	if t.Fixed() && t.Size() < need {
		t.Close()
		return nil, d, fmt.Errorf("%s: %w: it has %d bytes, the image needs %d", info.Path, disk.ErrTooSmall, t.Size(), need)
	}
	d.Size = max(d.Size, t.Size())
	return t, d, nil
}

// ReadDisk implements [DiskReader]. The disk is claimed as one that is written
// to is: what is mounted while it is read makes an image that never was a disk.
func (m *LinuxMachine) ReadDisk(_ context.Context, selector string) (Source, events.Disk, error) {
	info, err := selectDisk(m.gate(), selector)
	if err != nil && m.AllowRegular && strings.HasPrefix(selector, "/") {
		if st, statErr := os.Stat(selector); statErr == nil && st.Mode().IsRegular() {
			info, err = disk.Info{Path: selector, SectorSize: 512}, nil
		}
	}
	if err != nil {
		return nil, events.Disk{}, err
	}
	d := describeDisk(info)
	if err := m.gate().Check(info.Path, 0, 0, m.AllowRegular); err != nil && !errors.Is(err, disk.ErrReadOnly) {
		return nil, d, err
	}
	claim, err := claimDevice(info.Path)
	if err != nil {
		return nil, d, err
	}
	t, err := disk.Open(info.Path, disk.Options{ReadOnly: true})
	if err != nil {
		claim.Close()
		return nil, d, err
	}
	d.Size = max(d.Size, t.Size())
	return &claimedDisk{Target: t, claim: claim}, d, nil
}

// claimDevice opens a block device exclusively, for as long as it is open; of
// a file it is a plain opening.
func claimDevice(path string) (*os.File, error) {
	flags := os.O_RDONLY
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open %s: %w: the disk or a partition of it is mounted, or held by RAID, LVM or another program", path, disk.ErrInUse)
	}
	return f, err
}

// claimedDisk is a disk that nobody else writes to.
type claimedDisk struct {
	disk.Target
	claim *os.File
}

// Seek passes on, so that holes of a file are found.
func (d *claimedDisk) Seek(off int64, whence int) (int64, error) {
	if s, ok := d.Target.(io.Seeker); ok {
		return s.Seek(off, whence)
	}
	return 0, errors.ErrUnsupported
}

func (d *claimedDisk) Close() error { return errors.Join(d.Target.Close(), d.claim.Close()) }

// Join implements [Machine].
func (m *LinuxMachine) Join(s events.Session) (mcast.Conn, error) {
	group, err := netip.ParseAddr(s.Group)
	if err != nil {
		return nil, fmt.Errorf("join session %s: group: %w", s.ID, err)
	}
	local := m.Local
	switch {
	case s.Local && !local.IsLoopback():
		local = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case !local.IsValid():
		if local, err = routeTo(s.Server); err != nil {
			return nil, fmt.Errorf("join session %s: %w", s.ID, err)
		}
	}
	conn, err := mcast.Open(mcast.Options{Group: group, Port: s.Port, Local: local})
	if err != nil {
		return nil, fmt.Errorf("join session %s on %s: %w", s.ID, local, err)
	}
	return conn, nil
}

// routeTo is the own address from which a server is reached: the multicast
// group comes in where the server's answers do. Nothing is sent.
func routeTo(server string) (netip.Addr, error) {
	c, err := net.Dial("udp4", net.JoinHostPort(server, "9"))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("way to the server: %w", err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// Leave implements [Machine].
func (m *LinuxMachine) Leave(ctx context.Context, how events.Verb) error {
	if !m.Syscall {
		argv := []string{"/sbin/shutdown", "-h", "now"}
		if how == events.VerbReboot {
			argv = []string{"/sbin/reboot"}
		}
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %.200s", argv[0], err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	unix.Sync()
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if how == events.VerbReboot {
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
	return unix.Reboot(command)
}

// Imaging implements [Machine].
func (m *LinuxMachine) Imaging() bool { return m.RAMSystem }

// Address implements [Machine].
func (m *LinuxMachine) Address() string {
	if m.Local.IsValid() {
		return m.Local.String()
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			if a := firstIPv4(i); a != "" {
				return a
			}
		}
	}
	return ""
}
