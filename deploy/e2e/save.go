package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"loadnode/bus"
	"loadnode/events"
)

const savedName = "saved.ndz"

// saves has the disk of a machine that ran from it saved, and the saved image
// loaded on a fresh one: that starts from its disk, and knows of the starts of
// the first. Another, whose disk is too small, is refused meanwhile and
// nothing is written to it.
func saves(ctx context.Context, s settings, conn *bus.Conn, image proof, from, to, small *machine) error {
	marks, err := marks(ctx, from)
	if err != nil {
		return err
	}
	if len(marks) == 0 {
		return fmt.Errorf("%s has not run from its disk", from.name)
	}
	if err := save(ctx, s, conn, from); err != nil {
		return err
	}
	raw := filepath.Join(s.work, "saved.raw")
	if err := do(ctx, "", filepath.Join(filepath.Dir(s.omf), "imageunzip"), filepath.Join(s.work, "images", savedName), raw); err != nil {
		return err
	}

	if err := errors.Join(to.blank(), fill(small)); err != nil {
		return err
	}
	before, err := digest(small.disk)
	if err != nil {
		return err
	}
	job, err := begin(ctx, s, to.name+","+small.name, savedName)
	if err != nil {
		return err
	}
	end, err := follow(ctx, conn, job, func(node string, d events.Data) error {
		if d, ok := d.(events.LoadStarted); ok && node == small.name {
			return fmt.Errorf("the load of %s on %s has begun", node, d.Disk.Path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range end.Results {
		good := r.OK && r.Assurance != events.AssuranceUnverified
		if r.Node == small.name {
			good = r.Class == events.ClassRefused && strings.Contains(r.Error, "too small") && r.Attempts == 1
			fmt.Printf("   %s  %s: %s\n", r.Node, r.Class, r.Error)
		}
		if !good {
			return fmt.Errorf("job %s: unexpected result %+v", job, r)
		}
	}
	if end.OK != 1 || end.Failed != 1 {
		return fmt.Errorf("job %s: %d nodes loaded, %d failed; want 1 and 1", job, end.OK, end.Failed)
	}
	if _, err := small.power("off"); err != nil { // a node that failed stays as it is
		return err
	}
	after, err := digest(small.disk)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("%s was refused, and its disk has changed", small.name)
	}
	if err := to.awaitOff(ctx); err != nil {
		return err
	}
	if err := same(raw, to.disk); err != nil {
		return err
	}
	return remembers(ctx, to, image.token, marks)
}

// save saves the disk of a machine, which loses its power in the middle: no
// image comes of that, and the second attempt makes a whole one.
func save(ctx context.Context, s settings, conn *bus.Conn, m *machine) error {
	m.slow(slowDisk)
	out, err := omf(ctx, s, "save", m.name, savedName, "--detach").Output()
	if err != nil {
		return fmt.Errorf("omf save %s: %w", m.name, err)
	}
	if err := interrupted(ctx, conn, strings.TrimSpace(string(out)), map[string]*outage{m.name: {machine: m, idle: func() (bool, error) {
		list, err := omf(ctx, s, "images").Output()
		return !strings.Contains(string(list), savedName), err
	}}}); err != nil {
		return err
	}
	return m.awaitOff(ctx)
}

// remembers starts a machine from its disk. It is to know the token and the
// marks of earlier starts, and to leave one of its own.
func remembers(ctx context.Context, m *machine, token string, marks []string) error {
	if err := m.startLocal(); err != nil {
		return err
	}
	if err := m.awaitOff(ctx); err != nil {
		return err
	}
	text, err := os.ReadFile(m.console())
	if err != nil {
		return err
	}
	said := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if word, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && (word == "token" || word == "boot") {
			said[word] = append(said[word], rest)
		}
	}
	boots := said["boot"]
	if strings.Join(said["token"], " ") != token || len(boots) != len(marks)+1 || strings.Join(boots[:len(marks)], " ") != strings.Join(marks, " ") {
		return fmt.Errorf("%s said token %s and boots %s, want %s and %s and one more: %s", m.name, said["token"], boots, token, marks, m.console())
	}
	return nil
}

// marks are those that the starts of the system left on a disk.
func marks(ctx context.Context, m *machine) ([]string, error) {
	text, err := readBack(ctx, m, "/var/boots")
	return strings.Fields(text), err
}

// readBack reads a file of the system on a machine's disk, from outside.
func readBack(ctx context.Context, m *machine, file string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "debugfs", "-R", "cat "+file, fmt.Sprintf("%s?offset=%d", m.disk, systemAt<<20))
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	// It ends with 0 whatever it met; its first line is its version.
	if _, complaint, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); err == nil && complaint != "" {
		err = errors.New(complaint)
	}
	if err != nil {
		return "", fmt.Errorf("%s on the disk of %s: %w", file, m.name, err)
	}
	return out.String(), nil
}

// fill writes something on a machine's whole disk.
func fill(m *machine) error {
	text := make([]byte, m.size)
	_, _ = rand.NewChaCha8([32]byte{5}).Read(text) // has no errors
	return os.WriteFile(m.disk, text, 0o644)
}

// digest is that of a file.
func digest(path string) ([sha256.Size]byte, error) {
	text, err := os.ReadFile(path)
	return sha256.Sum256(text), err
}
