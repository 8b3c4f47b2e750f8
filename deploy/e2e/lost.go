package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"loadnode/bus"
	"loadnode/events"
)

// lostMachines never reach the imaging system: one cannot boot from the
// network, the other has not memory enough for it.
func lostMachines(s settings) []*machine {
	all := []*machine{
		{name: "n1-7", index: 7, noROM: true, lost: true},
		{name: "n1-8", index: 8, memory: 64, lost: true},
	}
	for _, m := range all {
		m.work, m.disk = s.work, filepath.Join(s.work, m.name+".disk")
		m.bus = []string{"-device", "virtio-blk-pci,drive=d,bootindex=1"}
	}
	return all
}

// lost waits for the end of a load of those machines, which is to say how far
// each of them came.
func lost(ctx context.Context, conn *bus.Conn, job string, machines []*machine) error {
	end, err := follow(ctx, conn, job, func(string, events.Data) error { return nil })
	if err != nil {
		return err
	}
	want := map[string]string{
		machines[0].name: "no DHCP request was seen from MAC " + hardware(machines[0].index).String(),
		machines[1].name: "the node fetched kernel and initrd",
	}
	for _, r := range end.Results {
		if r.OK || r.Class != events.ClassCheckin || !strings.Contains(r.Error, want[r.Node]) {
			return fmt.Errorf("job %s: %s: class %q, %q; want %q, %q", job, r.Node, r.Class, r.Error, events.ClassCheckin, want[r.Node])
		}
		fmt.Printf("   %s  %s: %s\n", r.Node, r.Class, r.Error)
	}
	if len(end.Results) != len(machines) {
		return fmt.Errorf("job %s: %d results, want %d", job, len(end.Results), len(machines))
	}
	return nil
}
