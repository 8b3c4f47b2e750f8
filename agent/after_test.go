package agent_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/agent"
	"loadnode/events"
	"loadnode/transfer/grow"
	"loadnode/transfer/personalise"
)

// finishingMachine notes what is done after a load, and whether the disk was closed before.
type finishingMachine struct {
	*fileMachine
	t             *testing.T
	grow, write   error
	size          grow.Size
	who           personalise.Config
	grown, writes int
}

func (m *finishingMachine) check(path string) {
	require.Equal(m.t, m.path, path)
	select {
	case <-m.closed:
		m.closed <- struct{}{}
	default:
		m.t.Error("the disk is still open")
	}
}

func (m *finishingMachine) Grow(_ context.Context, path string, o grow.Options) (grow.Result, error) {
	m.check(path)
	m.size = o.Size
	m.grown++
	return grow.Result{Partition: 2, Before: 1 << 20, After: 3 << 20, Filesystem: "ext4", FilesystemGrown: true, Notes: []string{"a note"}}, m.grow
}

func (m *finishingMachine) Personalise(_ context.Context, path string, c personalise.Config) error {
	m.check(path)
	require.Equal(m.t, 1, m.grown, "the filesystem has its size by then")
	m.who = c
	m.writes++
	return m.write
}

func finishing(t *testing.T) (*bench, *finishingMachine) {
	m := &finishingMachine{t: t}
	b := newBench(t, func(c *agent.Config, f *fileMachine) {
		m.fileMachine = f
		c.Machine = m
	})
	b.up()
	return b, m
}

func TestAfterwards(t *testing.T) {
	b, m := finishing(t)
	b.images.StartData()
	cmd := b.command()
	cmd.Resize, cmd.Verify = "80%", events.VerifyReadback
	cmd.Personalise = &events.Personalise{Hostname: "{node}.tb", ResetMachineID: true, Seed: &events.Seed{UserData: "#cloud-config\n"}}
	b.obeyed(events.VerbLoad, cmd)
	done := b.done()
	require.Equal(t, events.AssuranceReadback, done.Assurance, "it is about the image")
	require.Equal(t, &events.Grown{Partition: 2, Before: 1 << 20, After: 3 << 20, Filesystem: "ext4", FilesystemGrown: true, Notes: []string{"a note"}}, done.Grown)
	require.True(t, done.Personalised)
	require.Equal(t, grow.Size{Percent: 80}, m.size)
	require.Equal(t, personalise.Config{
		Hostname: "n1-1.tb", ResetMachineID: true,
		Seed: &personalise.Seed{MetaData: "instance-id: \"n1-1-" + jobID + "\"\nlocal-hostname: n1-1.tb\n", UserData: "#cloud-config\n"},
	}, m.who)
}

// TestAfterwardsFails: what fails after the image is a failed load, and says that the image is there.
func TestAfterwardsFails(t *testing.T) {
	for says, fault := range map[string]func(*finishingMachine){
		"the image is on the disk (written), but its last partition was not resized: no room":     func(m *finishingMachine) { m.grow = errors.New("no room") },
		"the image is on the disk (written), but its system was not personalised: it has no root": func(m *finishingMachine) { m.write = errors.New("it has no root") },
	} {
		b, m := finishing(t)
		fault(m)
		b.images.StartData()
		cmd := b.command()
		cmd.Resize, cmd.Personalise = "max", &events.Personalise{RemoveHostKeys: true}
		b.obeyed(events.VerbLoad, cmd)
		failed := b.failed()
		require.Equal(t, events.ClassWrite, failed.Class)
		require.Equal(t, says, failed.Message)
		require.False(t, failed.Retryable)
		b.requireDisk(true)
	}
}

// TestAfterwardsRefused: what cannot be done afterwards is refused before anything is written.
func TestAfterwardsRefused(t *testing.T) {
	for says, change := range map[string]func(*events.LoadCommand){
		"resize: ":                     func(c *events.LoadCommand) { c.Resize = "-5" },
		"personalise: nothing":         func(c *events.LoadCommand) { c.Personalise = &events.Personalise{} },
		"personalise: host name \"_\"": func(c *events.LoadCommand) { c.Personalise = &events.Personalise{Hostname: "_"} },
	} {
		b, _ := finishing(t)
		cmd := b.command()
		change(&cmd)
		b.obeyed(events.VerbLoad, cmd)
		failed := b.failed()
		require.Equal(t, events.ClassRefused, failed.Class)
		require.Contains(t, failed.Message, says)
		require.False(t, failed.Retryable)
		b.requireUntouched()
	}
	b := newBench(t) // a machine that can do neither
	b.up()
	cmd := b.command()
	cmd.Resize = "max"
	b.obeyed(events.VerbLoad, cmd)
	failed := b.failed()
	require.Equal(t, events.ClassRefused, failed.Class)
	require.Contains(t, failed.Message, "cannot make a partition larger")
	b.requireUntouched()
	_, err := os.Stat(b.machine.path)
	require.ErrorIs(t, err, os.ErrNotExist)
}
