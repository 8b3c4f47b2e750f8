package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"loadnode/bus"
	"loadnode/events"
)

// omf is the command line, as the operator.
func omf(ctx context.Context, s settings, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.omf, append([]string{"--server", natsURL, "--credential", filepath.Join(s.work, "state", "operator.json")}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// begin asks for a load, with more options, and returns its job.
func begin(ctx context.Context, s settings, nodes, image string, more ...string) (string, error) {
	out, err := omf(ctx, s, append([]string{"load", nodes, image, "--detach"}, more...)...).Output()
	if err != nil {
		return "", fmt.Errorf("omf load %s: %w", nodes, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// follow hands the facts of a job to look, the node's name with them, until the
// job has ended. It returns how.
func follow(ctx context.Context, conn *bus.Conn, job string, look func(node string, d events.Data) error) (events.JobFinished, error) {
	var end events.JobFinished
	err := conn.Watch(ctx, bus.WatchConfig{Stream: bus.StreamFacts, Filters: []string{events.JobFacts(testbed, job)}}, func(m bus.Message) error {
		if m.Err != nil {
			return m.Err
		}
		d, err := events.Decode(m.Event)
		if err != nil {
			return err
		}
		if f, ok := d.(events.JobFinished); ok {
			end = f
			return bus.ErrStop
		}
		return look(m.Address.Node, d)
	})
	if err != nil {
		return end, fmt.Errorf("job %s: %w", job, errors.Join(err, context.Cause(ctx)))
	}
	return end, nil
}
