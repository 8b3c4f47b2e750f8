package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"loadnode/events"
	"loadnode/transfer/grow"
	"loadnode/transfer/personalise"
)

// Grower is a Machine that can make the last partition of a disk, and its
// filesystem, larger once an image is on it, verified and synced.
type Grower interface {
	Grow(ctx context.Context, path string, o grow.Options) (grow.Result, error)
}

// Personaliser is a Machine that can write into the system on a disk, and sync,
// once an image is on it.
type Personaliser interface {
	Personalise(ctx context.Context, path string, c personalise.Config) error
}

// Grow implements [Grower].
func (m *LinuxMachine) Grow(ctx context.Context, path string, o grow.Options) (grow.Result, error) {
	return grow.Disk(ctx, path, o)
}

// Personalise implements [Personaliser].
func (m *LinuxMachine) Personalise(ctx context.Context, path string, c personalise.Config) error {
	return personalise.Disk(ctx, path, c)
}

// finish is what a command wants of the disk after the load.
type finish struct {
	grower       Grower
	size         *grow.Size
	personaliser Personaliser
	who          *personalise.Config
}

// afterwards reads what a command wants after the load. What this machine
// cannot do is refused before anything is written.
func (a *Agent) afterwards(cmd events.LoadCommand) (finish, error) {
	var f finish
	refuse := func(format string, args ...any) (finish, error) {
		return f, &Failure{Class: events.ClassRefused, Message: fmt.Sprintf(format, args...)}
	}
	var able bool
	if cmd.Resize != "" {
		if f.grower, able = a.cfg.Machine.(Grower); !able {
			return refuse("the machine of %s cannot make a partition larger: load it without --resize", a.cfg.Node)
		}
		r, err := events.ParseResize(cmd.Resize)
		if err != nil {
			return refuse("resize: %v", err)
		}
		f.size = &grow.Size{Bytes: r.Bytes, Percent: float64(r.Percent)}
	}
	if cmd.Personalise != nil {
		if f.personaliser, able = a.cfg.Machine.(Personaliser); !able {
			return refuse("the machine of %s cannot write into a system: load it without --personalise", a.cfg.Node)
		}
		c, err := personal(cmd.Personalise, a.cfg.Node, cmd.Job)
		if err != nil {
			return refuse("%v", err)
		}
		f.who = &c
	}
	return f, nil
}

// personal is what a node's system shall be. A seed without meta data gets an
// instance id of the job, so that cloud-init takes each load for a new machine.
func personal(p *events.Personalise, node, job string) (personalise.Config, error) {
	c := personalise.Config{ResetMachineID: p.ResetMachineID, RemoveHostKeys: p.RemoveHostKeys, AuthorizedKeys: p.AuthorizedKeys, User: p.User}
	if err := p.Check(); err != nil {
		return c, err
	}
	if p.Hostname != "" {
		var err error
		if c.Hostname, err = p.HostnameOf(node); err != nil {
			return c, fmt.Errorf("personalise: %w", err)
		}
	}
	if s := p.Seed; s != nil {
		c.Seed = &personalise.Seed{MetaData: strings.ReplaceAll(s.MetaData, events.NodePlace, node), UserData: s.UserData, NetworkConfig: s.NetworkConfig}
		if s.MetaData == "" {
			c.Seed.MetaData = "instance-id: " + strconv.Quote(node+"-"+job) + "\n"
			if c.Hostname != "" {
				c.Seed.MetaData += "local-hostname: " + c.Hostname + "\n"
			}
		}
	}
	return c, nil
}

// run does it, on the disk that the image is on. A failure here is a failure of
// the load, and says that the image itself is written: who looks at the node
// must know what is on its disk.
func (f finish) run(ctx context.Context, path string, done *events.LoadDone) error {
	if f.size != nil {
		r, err := f.grower.Grow(ctx, path, grow.Options{Size: *f.size})
		if err != nil {
			return afterImage(ctx, done.Assurance, "its last partition was not resized", err)
		}
		done.Grown = &events.Grown{
			Partition: r.Partition, Before: r.Before, After: r.After,
			Filesystem: r.Filesystem, FilesystemGrown: r.FilesystemGrown, Notes: r.Notes,
		}
	}
	if f.who != nil {
		if err := f.personaliser.Personalise(ctx, path, *f.who); err != nil {
			return afterImage(ctx, done.Assurance, "its system was not personalised", err)
		}
		done.Personalised = true
	}
	return nil
}

// afterImage is the failure of what is done after the image.
func afterImage(ctx context.Context, worth events.Assurance, what string, err error) error {
	f := &Failure{Class: events.ClassWrite, Message: fmt.Sprintf("the image is on the disk (%s), but %s: %v", worth, what, err)}
	if cause := context.Cause(ctx); cause != nil {
		f.Class, f.Retryable = events.ClassCancelled, errors.Is(cause, errEnding)
		if errors.Is(cause, errDeadline) {
			f.Class = events.ClassTimeout
		}
		f.Message = fmt.Sprintf("%v; the image is on the disk (%s), but %s", cause, worth, what)
	}
	return f
}
