package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"loadnode/agent"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/grow"
	"loadnode/transfer/mcast"
)

const (
	sectorSize = 512
	// socketBuffer is the receive buffer of a node, bytes: a hundred of them
	// share the memory that the kernel gives to UDP.
	socketBuffer = 2 << 20
	// reorderShare is how many of the datagrams a reordering network delays.
	reorderShare = 0.1
)

// machine is the imaging system's view of a node.
type machine struct {
	boot *boot
}

// DiskPath is the file that stands for the disk of a node.
func DiskPath(dir, node string) string { return filepath.Join(dir, events.Escape(node)+".disk") }

func (m *machine) disk() events.Disk {
	n := m.boot.node
	d := events.Disk{
		Path: DiskPath(n.sim.cfg.Dir, n.name), Serial: "sim-" + n.name, Model: "simulated disk",
		Size: n.sim.cfg.DiskSize, SectorSize: sectorSize,
	}
	if st, err := os.Stat(d.Path); err == nil && d.Size == 0 {
		d.Size = st.Size()
	}
	return d
}

// Hardware implements agent.Machine.
func (m *machine) Hardware(context.Context) (events.Hardware, error) {
	ip := m.boot.node.addr.As4()
	return events.Hardware{
		Disks: []events.Disk{m.disk()},
		NICs: []events.NIC{{
			Name: "sim0", MAC: net.HardwareAddr{2, 0, ip[0], ip[1], ip[2], ip[3]}.String(), Address: m.Address(),
		}},
	}, nil
}

// OpenDisk implements agent.Machine: a node has one disk, which every selector
// means.
func (m *machine) OpenDisk(_ context.Context, _ string, need int64, size int) (disk.Target, events.Disk, error) {
	d, cfg := m.disk(), m.boot.node.sim.cfg
	if err := disk.Check(d.Path, need, size, true); err != nil {
		return nil, d, err
	}
	if cfg.DiskSize > 0 && need > cfg.DiskSize {
		return nil, d, fmt.Errorf("%s: %w: it has %d bytes, the image needs %d", d.Path, disk.ErrTooSmall, cfg.DiskSize, need)
	}
	if size != 0 && size != sectorSize {
		return nil, d, fmt.Errorf("%s: %w: the disk has sectors of %d bytes, the image of %d", d.Path, disk.ErrSectorSize, sectorSize, size)
	}
	t, err := disk.Open(d.Path, disk.Options{Create: true})
	if err != nil {
		return nil, d, err
	}
	grown := max(cfg.DiskSize, need)
	if err := t.Extend(grown); err != nil {
		t.Close()
		return nil, d, err
	}
	d.Size = t.Size()
	return newPlatter(t, m.boot), d, nil
}

// ReadDisk implements agent.DiskReader. A disk of a given size that was never
// written to is there, and empty.
func (m *machine) ReadDisk(context.Context, string) (agent.Source, events.Disk, error) {
	d := m.disk()
	if _, err := os.Stat(d.Path); os.IsNotExist(err) && d.Size > 0 {
		t, err := disk.Open(d.Path, disk.Options{Create: true})
		if err != nil {
			return nil, d, err
		}
		if err := errors.Join(t.Extend(d.Size), t.Close()); err != nil {
			return nil, d, err
		}
	}
	t, err := disk.Open(d.Path, disk.Options{ReadOnly: true})
	if err != nil {
		return nil, d, err
	}
	d.Size = t.Size()
	return &pickup{Target: t, slow: newPlatter(t, m.boot)}, d, nil
}

// Grow implements agent.Grower. A file takes no notice of its filesystem's
// driver: what needs one is left as it is, and a note says so.
func (m *machine) Grow(ctx context.Context, path string, o grow.Options) (grow.Result, error) {
	return grow.Disk(ctx, path, o)
}

// Join implements agent.Machine. Only sessions on the loopback interface can
// be heard here.
func (m *machine) Join(s events.Session) (mcast.Conn, error) {
	n := m.boot.node
	group, err := netip.ParseAddr(s.Group)
	if err != nil {
		return nil, fmt.Errorf("join session %s: group: %w", s.ID, err)
	}
	conn, err := mcast.Open(mcast.Options{Group: group, Port: s.Port, Local: n.addr, ReadBuffer: socketBuffer})
	if err != nil {
		return nil, fmt.Errorf("join session %s: %w", s.ID, err)
	}
	f := mcast.Faults{Loss: n.faults[Loss].Number / 100}
	if n.faults.has(Reorder) {
		f.Reorder = reorderShare
	}
	if f.Loss > 0 || f.Reorder > 0 {
		conn = mcast.WithFaults(conn, f, seedOf(n.seed, "network"))
	}
	return &cable{Conn: conn, boot: m.boot}, nil
}

// Leave implements agent.Machine.
func (m *machine) Leave(_ context.Context, how events.Verb) error {
	m.boot.node.left(m.boot, how)
	return nil
}

// Imaging implements agent.Machine: agents run in the imaging system only.
func (m *machine) Imaging() bool { return true }

// Address implements agent.Machine.
func (m *machine) Address() string { return m.boot.node.addr.String() }

// cable is a network connection that a power cut silences.
type cable struct {
	mcast.Conn
	boot *boot
}

func (c *cable) Send(ds [][]byte) error {
	if c.boot.dead.Load() {
		return net.ErrClosed
	}
	return c.Conn.Send(ds)
}

func (c *cable) SendTo(peer netip.AddrPort, d []byte) error {
	if c.boot.dead.Load() {
		return net.ErrClosed
	}
	return c.Conn.SendTo(peer, d)
}
