package agent

import (
	"context"
	"io"

	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/imagezip"
	"loadnode/transfer/mcast"
)

// Machine is what an agent needs of the machine it runs on.
type Machine interface {
	// Hardware lists disks and network interfaces.
	Hardware(ctx context.Context) (events.Hardware, error)
	// OpenDisk finds the one disk that a selector means, passes it through the
	// safety gate (need and sectorSize in bytes) and opens it for writing. An
	// error means that nothing was and nothing will be written.
	OpenDisk(ctx context.Context, selector string, need int64, sectorSize int) (disk.Target, events.Disk, error)
	// Join opens the machine's end of the group of a session.
	Join(session events.Session) (mcast.Conn, error)
	// Leave halts or reboots the machine. It may return before that has
	// happened, and need not return at all.
	Leave(ctx context.Context, how events.Verb) error
	// Imaging reports whether the machine runs the imaging system: only then
	// its disks may be written.
	Imaging() bool
	// Address is the machine's IPv4 address on the control network, or "".
	Address() string
}

// DiskReader is a Machine of which disks can be saved.
type DiskReader interface {
	// ReadDisk finds the one disk that a selector means, makes sure that nothing
	// writes to it (it is not mounted, nor held by anything), and opens it for
	// reading.
	ReadDisk(ctx context.Context, selector string) (Source, events.Disk, error)
}

// Source is a disk open for reading.
type Source interface {
	imagezip.Source
	io.Closer
}
