package bridge

import (
	"context"
	"errors"
	"fmt"

	"loadnode/agent/legacy"
	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/mcast"
)

// machine is the far node as its agent on the bus sees it. Its disks and sockets are not ours to open: the Loader has
// the node's own programs use them.
type machine struct {
	node *node
	link *link
	id   identity
}

var errElsewhere = errors.New("a legacy node opens its disks and sockets itself")

func (m *machine) Hardware(context.Context) (events.Hardware, error) {
	return events.Hardware{Disks: m.id.disks, NICs: []events.NIC{{Name: "control", Address: m.Address()}}}, nil
}

func (m *machine) OpenDisk(context.Context, string, int64, int) (disk.Target, events.Disk, error) {
	return nil, events.Disk{}, errElsewhere
}

func (m *machine) Join(events.Session) (mcast.Conn, error) { return nil, errElsewhere }

// Leave halts or reboots the node. The agent has no command for halting; its system has a program.
func (m *machine) Leave(ctx context.Context, how events.Verb) error {
	if how == events.VerbReboot {
		return m.link.send(true, m.link.name, legacy.Reboot)
	}
	_, code, err := m.link.run(ctx, "shutdown", "-h", "now")
	switch {
	case errors.Is(err, errLost):
		return nil // it went while it was being asked
	case err != nil:
		return err
	case code != 0:
		return fmt.Errorf("shutdown -h now ended with exit code %d", code)
	}
	return nil
}

func (m *machine) Imaging() bool { return m.node.AnySystem || m.id.imaging() }

func (m *machine) Address() string { return m.node.Address.String() }
