package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"loadnode/bus"
	"loadnode/events"
)

// What the system on a disk is to be made after the load.
const (
	key      = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEJRm0Yd5UjJ5pgyLrvcm3ZtX0vXk1GxV1sO6z8u0q9h proof"
	userData = "#cloud-config\n{}\n"
)

// afterwards has an image loaded on a larger disk, its last partition and the
// filesystem in it made larger there, and the system made the node's own. It
// looks at the disk from outside, and has the machine start from it.
func afterwards(ctx context.Context, s settings, conn *bus.Conn, image proof, m *machine) error {
	if err := m.blank(); err != nil {
		return err
	}
	file := filepath.Join(s.work, "personal.yaml")
	text := fmt.Sprintf("hostname: \"{node}.example\"\nauthorized_keys: [%q]\nseed: {user_data: %q}\n", key, userData)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	job, err := begin(ctx, s, m.name, imageName, "--verify", "readback", "--resize", "max", "--personalise", file)
	if err != nil {
		return err
	}
	if _, err := follow(ctx, conn, job, func(node string, d events.Data) error {
		switch d := d.(type) {
		case events.LoadFailed:
			return fmt.Errorf("%s: %s: %s", node, d.Class, d.Message)
		case events.LoadDone:
			if g := d.Grown; g == nil || g.Partition != 2 || !g.FilesystemGrown || len(g.Notes) > 0 || !d.Personalised || d.Assurance != events.AssuranceReadback {
				return fmt.Errorf("%s: unexpected result %+v, partition %+v", node, d, g)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := m.awaitOff(ctx); err != nil {
		return err
	}
	if err := grown(ctx, m); err != nil {
		return err
	}
	for file, want := range map[string]string{
		"/etc/hostname":                         m.name + ".example\n",
		"/root/.ssh/authorized_keys":            key + "\n",
		"/var/lib/cloud/seed/nocloud/user-data": userData,
		"/etc/token":                            image.token + "\n",
	} {
		got, err := readBack(ctx, m, file)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s on the disk of %s is %q, want %q", file, m.name, got, want)
		}
	}
	return remembers(ctx, m, image.token, nil)
}

// filesystem is what dumpe2fs says of its size.
var filesystem = regexp.MustCompile(`(?s)Block count:\s+(\d+)\n.*Block size:\s+(\d+)\n`)

// grown says whether the last partition of a disk ends where the disk does, and
// whether the filesystem in it is sound and as large.
func grown(ctx context.Context, m *machine) error {
	out, err := exec.CommandContext(ctx, "sfdisk", "-J", m.disk).Output()
	if err != nil {
		return fmt.Errorf("sfdisk: %w", err)
	}
	var t struct {
		Table struct {
			Partitions []struct{ Start, Size int64 } `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return fmt.Errorf("sfdisk: %w", err)
	}
	if len(t.Table.Partitions) != 2 {
		return fmt.Errorf("%s has %d partitions, want 2", m.name, len(t.Table.Partitions))
	}
	last := t.Table.Partitions[1]
	if last.Start != systemAt<<11 || last.Start+last.Size != m.size>>9 {
		return fmt.Errorf("the last partition of %s has sectors %d to %d, want %d to %d", m.name, last.Start, last.Start+last.Size, systemAt<<11, m.size>>9)
	}
	at := fmt.Sprintf("%s?offset=%d", m.disk, systemAt<<20)
	if err := do(ctx, "", "e2fsck", "-fn", at); err != nil {
		return err
	}
	if out, err = exec.CommandContext(ctx, "dumpe2fs", "-h", at).Output(); err != nil {
		return fmt.Errorf("dumpe2fs: %w", err)
	}
	var size int64 = 1
	for _, number := range filesystem.FindStringSubmatch(string(out))[1:] {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return err
		}
		size *= n
	}
	if size != last.Size<<9 {
		return fmt.Errorf("the filesystem of %s has %d bytes, its partition %d", m.name, size, last.Size<<9)
	}
	fmt.Printf("   %s  partition 2 and its filesystem: %d MiB instead of %d\n", m.name, size>>20, systemSize)
	return nil
}
