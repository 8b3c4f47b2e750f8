package display

import (
	"fmt"
	"strings"
	"time"

	"loadnode/events"
)

// Line is a fact as one line of text: when, about what, what. It has no line
// break. Data may be nil when they could not be decoded; err says why. Where
// only one job is shown the caller leaves it out of the address.
func Line(at time.Time, a events.Address, d events.Data, err error) string {
	about := a.Node
	switch {
	case a.Node != "":
	case a.Image != "":
		about = "image " + a.Image
	case a.Leases:
		about = "leases"
	default:
		about = "job"
	}
	if a.Job != "" {
		about = a.Job + " " + about
	}
	kind := string(a.Kind)
	if d != nil {
		kind = string(d.Kind())
	}
	text := fmt.Sprintf("%s  %-8s %s", at.Local().Format("15:04:05.000"), about, kind)
	detail := ""
	switch {
	case err != nil:
		detail = "(" + err.Error() + ")"
	case d != nil:
		detail = Detail(d)
	}
	if detail != "" {
		text += "  " + detail
	}
	return Clean(text)
}

// Clean makes one line of what came from outside, and keeps it from moving the
// cursor: control characters are dropped.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, s)
}

// Detail is what a fact says beside its kind, in a few words.
func Detail(d events.Data) string {
	switch f := d.(type) {
	case events.JobRequested:
		if f.Save != nil {
			return words("save", f.Save.Node, as(f.Save.Image), by(f.Requester))
		}
		return words(f.Request.Image, "on", f.Request.Nodes, by(f.Requester))
	case events.JobAccepted:
		if f.Save != nil {
			s := fmt.Sprintf("save %s as %s, deadline %s", nodeNames(f.Nodes), f.Save.Image, f.Deadline.Local().Format("Jan 2 15:04:05")) // of a large disk
			if f.DryRun {
				s += ", dry run"
			}
			return s
		}
		s := fmt.Sprintf("%s on %s, deadline %s", f.Image.Name, count(len(f.Nodes), "node"), f.Deadline.Local().Format("15:04:05"))
		if f.Quorum < len(f.Nodes) {
			s += fmt.Sprintf(", quorum %d", f.Quorum)
		}
		if len(f.Missing) > 0 {
			s += ", not in the inventory: " + strings.Join(f.Missing, " ")
		}
		if f.DryRun {
			s += ", dry run"
		}
		return s
	case events.JobRejected:
		return words(string(f.Error.Code)+":", f.Error.Message, aside(f.Error.Hint))
	case events.JobCancelled:
		return words(f.Reason, by(f.Requester))
	case events.JobFinished:
		return fmt.Sprintf("%s: %d ok, %d failed in %s", f.Outcome, f.OK, f.Failed, seconds(f.Ended.Sub(f.Began)))
	case events.ImageServed:
		s := fmt.Sprintf("%s on %s:%d from %s", f.Image.Name, f.Session.Group, f.Session.Port, f.Session.Server)
		switch {
		case f.Job != "":
		case len(f.Leases) == 0: // a fact of the image: the session after a change of its leases
			s += ", for no job now"
		default:
			s += ", for " + strings.Join(f.Leases, " ")
		}
		return s
	case events.ImageReleased:
		return f.Reason
	case events.ImageDamaged:
		return f.Message
	case events.ImageAdded:
		s := fmt.Sprintf("%s, %s", Bytes(f.Image.Size), count(f.Image.Chunks, "chunk"))
		if p := f.Provenance; p != nil {
			s += ", saved from " + p.Node
			if p.Undigested {
				s += " without a digest of its own"
			}
		}
		return s
	case events.Leased:
		return words("job", f.Job+":", strings.Join(f.Nodes, " "))
	case events.Released:
		return words("job", f.Job+":", strings.Join(f.Nodes, " "), by(f.By))
	case events.Protected:
		return words(strings.Join(f.Nodes, " "), f.Reason, by(f.By))
	case events.Unprotected:
		return words(strings.Join(f.Nodes, " "), by(f.By))
	}
	return nodeDetail(d)
}

func nodeDetail(d events.Data) string {
	switch f := d.(type) {
	case events.RebootRequested:
		return words(attempt(f.Attempt), hard(f.Hard))
	case events.PxeUp:
		return words(f.Address, attempt(f.Attempt))
	case events.LoadStarted:
		return words(f.Disk.Path, attempt(f.Attempt))
	case events.LoadDone:
		s := fmt.Sprintf("%s in %s, %s", Bytes(f.BytesWritten), seconds(time.Duration(f.Took)), f.Assurance)
		if after := Afterwards(f.Grown, f.Personalised); after != "" {
			s += ", " + after
		}
		return s
	case events.LoadFailed:
		return failedAttempt(f.Class, f.Message, f.Retry)
	case events.SaveStarted:
		return words(f.Disk.Path, as(f.Image), attempt(f.Attempt))
	case events.SaveDone:
		return fmt.Sprintf("%s, %s of %s of disk in %s", f.Image.Name, Bytes(f.Image.Size), Bytes(f.DiskBytes), seconds(time.Duration(f.Took)))
	case events.SaveFailed:
		return failedAttempt(f.Class, f.Message, f.Retry)
	case events.ShutdownRequested:
		return words(string(f.Then), hard(f.Hard))
	case events.ShutdownDone:
		return words("seen by", f.Seen)
	case events.RebootDone:
		return words("seen by", f.Seen)
	case events.NodeFailed:
		return words(string(f.Class)+":", f.Message)
	case events.CredentialMisused:
		return words("alarm:", f.Message, aside(words("asked from", f.Address)))
	case events.Progress:
		return fmt.Sprintf("%s %.0f%%, %s written", f.Phase, f.Percent, Bytes(f.BytesWritten))
	case events.SaveProgress:
		return fmt.Sprintf("%s %.0f%%, %s", f.Phase, f.Percent, moved(f.BytesRead, f.BytesSent))
	}
	return ""
}

// Afterwards says what was done to a disk after the image; "" for nothing.
func Afterwards(g *events.Grown, personalised bool) string {
	var done []string
	switch {
	case g == nil:
	case g.After == g.Before:
		done = append(done, fmt.Sprintf("partition %d as large as it was (%s)", g.Partition, Bytes(g.Before)))
	default:
		s := fmt.Sprintf("partition %d grown from %s to %s", g.Partition, Bytes(g.Before), Bytes(g.After))
		if !g.FilesystemGrown {
			s += " but not its filesystem"
		}
		done = append(done, s)
	}
	if personalised {
		done = append(done, "personalised")
	}
	return strings.Join(done, ", ")
}

func failedAttempt(class events.Class, message string, again bool) string {
	s := words(string(class)+":", message)
	if again {
		s += ", another attempt follows"
	}
	return s
}

// moved is how far a save is.
func moved(read, sent int64) string { return Bytes(read) + " read, " + Bytes(sent) + " sent" }

// as is the name of the image that a save makes, if it is known.
func as(image string) string {
	if image == "" {
		return ""
	}
	return "as " + image
}

func nodeNames(nodes []events.PlannedNode) string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return strings.Join(names, " ")
}

func words(w ...string) string {
	var out []string
	for _, s := range w {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

func aside(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return "by " + who
}

func attempt(n int) string {
	if n <= 1 {
		return ""
	}
	return fmt.Sprintf("attempt %d", n)
}

func hard(h bool) string {
	if h {
		return "by power"
	}
	return ""
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Bytes is a size in bytes for people: "1.5 MiB".
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1024, 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[u])
}
