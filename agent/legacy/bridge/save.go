package bridge

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	"loadnode/agent"
	"loadnode/agent/legacy"
	"loadnode/events"
)

// saveProcess is the id of the program that saves a disk.
const saveProcess = "loadnode/save"

// failedWord is what the node prints when its imagezip failed: the pipe that it is part of ends with the status of netcat.
const failedWord = "imagezip-failed"

// Save implements agent.Saver: the node pipes its disk through imagezip and netcat into a plain place, as OMF 5 does, or
// writes it to a file in a directory that it mounts, as OMF 4.4 does (§a.8). What it says of its end is worth little, so
// the report names no digest: whether the image is there and whole only the image service knows, and the handler asks it.
func (l *loader) Save(ctx context.Context, s agent.Save) (events.SaveDone, error) {
	l.busy.Add(1)
	defer l.busy.Done()
	c := s.Command
	key := fmt.Sprintf("save %s %s %d", l.id.boot, c.Job, c.Attempt)
	if o, ok := l.node.memory.get(key); ok {
		return o.saved, o.err
	}
	done, err := l.save(ctx, s)
	l.node.memory.put(key, outcome{saved: done, err: err})
	return done, err
}

func (l *loader) save(ctx context.Context, s agent.Save) (events.SaveDone, error) {
	c := s.Command
	where, err := l.source(c.Disk)
	if err != nil {
		return events.SaveDone{}, err
	}
	cmd, err := l.saving(c, where)
	if err != nil {
		return events.SaveDone{}, err
	}
	in, shut := l.link.open(cmd.process)
	defer shut()
	if err := l.link.send(true, l.link.name, cmd.name, cmd.words...); err != nil {
		return events.SaveDone{}, l.saveLost(err, nil)
	}
	var output []string
	var end *legacy.Event
	var last <-chan time.Time
	for {
		for _, e := range l.link.events(in) {
			switch e.Kind {
			case legacy.Started:
				s.Started(where)
			case legacy.Stdout, legacy.Stderr:
				output = append(output, e.Text)
				output = output[max(0, len(output)-maxOutput):]
			case legacy.DoneOK, legacy.DoneError:
				end = &e
				last = time.After(l.node.cfg.Timing.Last)
			case legacy.ErrorWord:
				return events.SaveDone{}, notSaving(l.node.Name, e.Text)
			}
		}
		select {
		case <-in.wake:
		case <-last:
			if err := saveVerdict(l.node.Name, *end, strings.Join(output, "\n")); err != nil {
				return events.SaveDone{}, err
			}
			s.Started(where)
			return events.SaveDone{Image: events.Image{Name: c.Image}, DiskBytes: where.Size, Counters: map[string]int64{"legacy": 1, "unverified": 1}}, nil
		case <-l.link.over:
			return events.SaveDone{}, l.saveLost(l.link.lost(), output)
		case <-ctx.Done():
			_ = l.link.send(true, l.link.name, legacy.Kill, cmd.process, "KILL") // the place is given up as well, which ends it
			return events.SaveDone{}, context.Cause(ctx)
		}
	}
}

// saving is a command that saves a disk.
type saving struct {
	process string // its id
	name    string
	words   []string
}

// saving is how the node saves to a place. Each word is one of letters, digits and signs that every shell knows: the
// disk, the address and the directory were looked at.
func (l *loader) saving(c events.SaveCommand, where events.Disk) (saving, error) {
	switch nfs, file := l.node.NFS, c.Place.File; {
	case nfs != "" && file != "" && file == path.Base(file):
		return saving{legacy.SaveProcess, legacy.SaveImage, []string{nfs, file, where.Path}}, nil
	case nfs != "" || file != "":
		return saving{}, &agent.Failure{Class: events.ClassRefused,
			Message: fmt.Sprintf("the inventories of bridge and handler differ on where %s saves to: directory %.80q, file %.80q", l.node.Name, nfs, file)}
	}
	host, port, err := net.SplitHostPort(c.Place.Address)
	if err == nil {
		_, err = netip.ParseAddrPort(c.Place.Address)
	}
	if err != nil {
		return saving{}, &agent.Failure{Class: events.ClassStore, Retryable: true,
			Message: fmt.Sprintf("a legacy agent needs a plain place for the image, not %.80q", c.Place.Address)}
	}
	level := 1 // as OMF 5 saves: those machines are old
	if c.Level != 0 {
		level = c.Level
	}
	return saving{saveProcess, legacy.Exec, []string{saveProcess, "(imagezip", fmt.Sprintf("-z%d", level), where.Path, "-", "||", "echo", failedWord, "1>&2)",
		"|", "nc", "-q", "0", host, port}}, nil
}

// notSaving is the failure of a save that the agent does not begin.
func notSaving(node, text string) error {
	if strings.Contains(text, "While mounting") {
		return &agent.Failure{Class: events.ClassStore, Retryable: true, Text: text, Message: node + " cannot mount the directory that it saves to, or its disk"}
	}
	return &agent.Failure{Class: events.ClassRefused, Message: "the agent does not take the command", Text: text}
}

// source finds the disk that is to be saved.
func (l *loader) source(selector string) (events.Disk, error) {
	name, ok := strings.CutPrefix(selector, "/dev/")
	if !ok || name == "" || strings.Trim(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_/-") != "" {
		return events.Disk{}, &agent.Failure{Class: events.ClassRefused, Message: fmt.Sprintf("disk %q: a legacy agent takes a path such as /dev/hda", selector)}
	}
	if !l.id.listed {
		return events.Disk{Path: selector}, nil
	}
	var names []string
	for _, d := range l.id.disks {
		if d.Path == selector {
			return d, nil
		}
		names = append(names, d.Path)
	}
	return events.Disk{}, &agent.Failure{Class: events.ClassRefused, Message: fmt.Sprintf("%s has no disk %s, it has %s", l.node.Name, selector, strings.Join(names, " "))}
}

// saveVerdict is why a save failed, as far as the node says it; nil if it says nothing of the kind.
func saveVerdict(node string, end legacy.Event, text string) error {
	program := "netcat"
	if end.ID == legacy.SaveProcess {
		program = "imagezip"
	}
	evidence := strings.TrimSpace(text + "\n" + end.Text)
	switch {
	case strings.Contains(text, "imagezip: not found"), strings.Contains(text, "nc: not found"), strings.Contains(text, "command not found"),
		strings.Contains(text, "exec failed for"):
		return &agent.Failure{Class: events.ClassRefused, Text: evidence,
			Message: fmt.Sprintf("the imaging system of %s has no imagezip or no netcat", node)}
	case strings.Contains(text, failedWord), strings.Contains(text, "read error"):
		return &agent.Failure{Class: events.ClassRead, Text: evidence, Message: fmt.Sprintf("imagezip on %s failed", node)}
	case end.Kind == legacy.DoneError:
		return &agent.Failure{Class: events.ClassStore, Retryable: true, Text: evidence,
			Message: fmt.Sprintf("%s on %s ended with %s", program, node, end.Text)}
	}
	return nil
}

// saveLost is the failure of a save whose agent is gone: it kills what it ran when its controller goes (§a.4).
func (l *loader) saveLost(err error, output []string) error {
	return &agent.Failure{Class: events.ClassStore, Retryable: true, Text: strings.Join(output, "\n"),
		Message: fmt.Sprintf("%v; the agent of %s ends its save with it", err, l.node.Name)}
}

var _ agent.Saver = (*loader)(nil)
