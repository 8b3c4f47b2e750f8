package main

import (
	"fmt"
	"io"
	"time"

	"loadnode/cmd/omf/internal/display"
)

// legacyTime is how Ruby printed a time.
const legacyTime = "Mon Jan 02 15:04:05 -0700 2006"

// legacySave prints a save as OMF 4 does (omf-legacy §c.1).
type legacySave struct {
	out            io.Writer
	testbed        string
	named, started bool
}

// tick looks at the job; it is called often.
func (l *legacySave) tick(now time.Time, j *display.Job) error {
	if j.Accepted == nil || j.Accepted.Save == nil || len(j.Nodes) == 0 {
		return nil
	}
	n := j.Nodes[0]
	if !l.named {
		l.named = true
		if _, err := fmt.Fprintf(l.out, "- Saving disk image from node %s in the file '%s'\n  (disk images are located at: the catalogue of '%s', see omf images)\n",
			omfName(n.Name), display.Clean(j.Accepted.Save.Image), display.Clean(l.testbed)); err != nil {
			return err
		}
	}
	if l.started {
		return nil
	}
	switch n.State {
	case "saving", "saved", "leaving", "done":
		l.started = true
		_, err := fmt.Fprintf(l.out, "- SAVE_IMAGE process started at: %s\n  (this may take a while, e.g. 5min+, and longer for a disk with much on it)\n", now.Format(legacyTime))
		return err
	}
	return nil
}

// finish prints how a job ended. The exit code says it whatever becomes of
// these lines.
func (l *legacySave) finish(now time.Time, j *display.Job) {
	if j.Result == nil || l.tick(now, j) != nil || j.Accepted != nil && j.Accepted.DryRun {
		return
	}
	if j.Result.OK == 1 {
		fmt.Fprintf(l.out, "- Saving process finished correctly at: %s\n", now.Format(legacyTime))
		return
	}
	fmt.Fprintf(l.out, "- Saving process finished with ERRORS! at: %s\n", now.Format(legacyTime))
	for _, r := range j.Result.Results {
		fmt.Fprintf(l.out, "  %s: %s\n", display.Clean(string(r.Class)), display.Clean(r.Error))
	}
}
