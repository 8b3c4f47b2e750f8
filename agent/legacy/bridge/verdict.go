package bridge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"loadnode/agent"
	"loadnode/agent/legacy"
	"loadnode/events"
	"loadnode/transfer/ndz"
)

// signs are words in the output of a client that failed, and what they mean (§a.9). The first that is found counts.
var signs = []struct {
	words string
	class events.Class
	again bool
	says  string
}{
	{"opening output file", events.ClassRefused, false, "it cannot open the disk"},
	{"exec failed for", events.ClassRefused, false, "its imaging system has no frisbee"},
	{"IP_ADD_MEMBERSHIP", events.ClassJoin, false, "it cannot join the group on its interface"},
	{"setsockopt", events.ClassJoin, false, "it cannot set up its socket"},
	{"bind", events.ClassJoin, true, "it cannot bind its port"},
	{"write error", events.ClassWrite, false, "its disk refused a write"},
	{"Short write", events.ClassWrite, false, "its disk took less than was written"},
	{"ImageUnzipChunk failed", events.ClassReceive, true, "it could not decompress what it received"},
	{"inflate", events.ClassReceive, true, "it could not decompress what it received"},
	{"Bad Magic Number", events.ClassImage, false, "it does not know the format of the image"},
}

// judge says what the end of frisbee means.
func (a *attempt) judge(end legacy.Event) (events.LoadDone, error) {
	text := a.tail()
	a.mu.Lock()
	covered, written, wrote := a.covered, a.written, a.wrote
	a.mu.Unlock()
	if end.Kind == legacy.DoneError {
		return events.LoadDone{}, failure(a.node.Name, end, text)
	}
	// The client's own count is the only witness there is. The last sector of an image may be incomplete.
	if wrote && written+ndz.SectorSize <= a.cmd.Image.DataBytes {
		return events.LoadDone{}, &agent.Failure{Class: events.ClassVerify, Text: text,
			Message: fmt.Sprintf("frisbee on %s says that it is done, and that it wrote %d bytes of %d", a.node.Name, written, a.cmd.Image.DataBytes)}
	}
	a.started() // an image may be so small that nothing was heard before its end
	a.mu.Lock()
	a.progress(100)
	a.mu.Unlock()
	return events.LoadDone{
		Assurance: events.AssuranceUnverified, Chunks: a.cmd.Image.Chunks,
		BytesWritten: written, DiskBytes: covered,
	}, nil
}

// vanished says that frisbee has ended although nothing says so: where messages can be lost, the last one can (§a.7). It
// asks the node for its processes whenever more is known to be lost.
func (a *attempt) vanished(ctx context.Context, in *inbox) bool {
	missed := a.link.via.missing()
	if missed <= a.missed || time.Since(a.probed) < a.node.cfg.Timing.Ping {
		return false
	}
	a.probed = time.Now()
	// The kernel's version is there to show that the answer is one.
	lines, _, err := a.link.ask(ctx, "grep", "-h", "-e", "frisbee", "-e", "Linux", "/proc/version", "/proc/[0-9]*/stat")
	if err != nil {
		return false // it is asked again
	}
	a.missed = missed
	answered := false
	for _, line := range lines {
		answered = answered || strings.HasPrefix(line, "Linux version")
		if strings.Contains(line, "(frisbee)") {
			return false
		}
	}
	if !answered {
		return false
	}
	a.link.mu.Lock()
	defer a.link.mu.Unlock()
	return len(in.events) == 0 // what has come meanwhile may be its end
}

// judgeSilence says what the output of a frisbee means whose end was lost.
func (a *attempt) judgeSilence() (events.LoadDone, error) {
	a.mu.Lock()
	wrote := a.wrote
	a.mu.Unlock()
	if wrote {
		return a.judge(legacy.Event{Kind: legacy.DoneOK, ID: legacy.LoadProcess})
	}
	text := a.tail()
	f := failure(a.node.Name, legacy.Event{Kind: legacy.DoneError}, text)
	f.Message = fmt.Sprintf("frisbee on %s has ended; messages of the agent were lost, and with them what it said of its end", a.node.Name)
	return events.LoadDone{}, f
}

// failure gives the class of a frisbee that ended with an error.
func failure(node string, end legacy.Event, text string) *agent.Failure {
	f := &agent.Failure{Class: events.ClassReceive, Retryable: true, Text: strings.TrimSpace(text + "\n" + end.Text)}
	code, signal, ok := end.ExitStatus()
	how := end.Text
	switch {
	case ok && signal != 0:
		how = fmt.Sprintf("signal %d", signal)
	case ok:
		how = fmt.Sprintf("exit code %d", code)
	}
	f.Message = fmt.Sprintf("frisbee on %s ended with %s", node, how)
	for _, s := range signs {
		if strings.Contains(text, s.words) {
			f.Class, f.Retryable = s.class, s.again
			f.Message += ": " + s.says
			return f
		}
	}
	return f
}
