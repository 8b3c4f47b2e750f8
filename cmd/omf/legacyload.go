package main

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"loadnode/cmd/internal/outfile"
	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/handler/nodeset"
)

// legacyLoad is what omf load takes from the command lines of OMF 4 and 5.
type legacyLoad struct {
	topology, image    string // -t, -i
	outPath, outPrefix string // of the topologies of the result
	output             bool   // print what OMF 4 printed
}

// wanted says whether the result is to be written as topologies.
func (l legacyLoad) wanted() bool { return l.outPath != "" || l.outPrefix != "" }

// words brings a command line of OMF into the form NODES… IMAGE: what OMF 5 names by options, and OMF 4's
// TOPOLOGY IMAGE TIMEOUT DOMAIN.
func (l legacyLoad) words(a *app, args []string) ([]string, error) {
	if l.topology != "" || l.image != "" {
		switch {
		case len(args) > 0:
			return nil, usagef("omf load: with -t and -i there are no other words, got %q", display.Clean(args[0]))
		case l.image == "":
			return nil, usagef("omf load: -t names nodes, and no image is named: add -i IMAGE")
		case l.topology == "":
			return nil, usagef("omf load: -i names an image, and no nodes are named: add -t NODES, such as -t system:topo:all")
		}
		return []string{l.topology, l.image}, nil
	}
	if (len(args) == 3 || len(args) == 4) && strings.HasSuffix(args[1], ".ndz") && digits(args[2]) && len(args[2]) < 8 {
		if len(args) == 4 {
			if err := a.cfg.Set(config.KeyTestbed, args[3], "the command"); err != nil {
				return nil, usagef("%w", err)
			}
		}
		seconds, err := time.ParseDuration(args[2] + "s")
		if err != nil {
			return nil, usagef("The timeout value '%s' is not an integer!", args[2])
		}
		a.legacyTimeout = seconds
		return args[:2], nil
	}
	if len(args) < 2 {
		return nil, usagef("omf load wants NODES and IMAGE, got %d words", len(args))
	}
	return args, nil
}

// Progress of OMF 4 (omf-legacy §c.1).
const legacyEvery = 10 * time.Second

// legacyScreen prints the progress of a job as OMF 4 does: a line each 10 s, once all nodes are up that still can be.
type legacyScreen struct {
	out  io.Writer
	next time.Time
	ups  map[string]time.Time // when each node came up
	from map[string]time.Time // when it was first seen
}

func newLegacyScreen(out io.Writer) *legacyScreen {
	return &legacyScreen{out: out, ups: map[string]time.Time{}, from: map[string]time.Time{}}
}

// tick looks at the job; it is called often.
func (l *legacyScreen) tick(now time.Time, j *display.Job) error {
	waiting := false
	for _, n := range j.Nodes {
		if l.from[n.Name].IsZero() {
			l.from[n.Name] = now
		}
		switch n.State {
		case "pending", "rebooting":
			waiting = true
		default:
			if l.ups[n.Name].IsZero() {
				l.ups[n.Name] = now
			}
		}
	}
	if waiting || len(j.Nodes) == 0 || now.Before(l.next) {
		return nil
	}
	l.next = now.Add(legacyEvery)
	_, err := fmt.Fprintln(l.out, " INFO exp: "+l.line(now, j))
	return err
}

// line is Progress(done/failed/total): min/avg/max …; done includes the failed.
func (l *legacyScreen) line(now time.Time, j *display.Job) string {
	done, failed, sum := 0, 0, 0
	lowest, highest, slowest := 101, 0, ""
	var boot time.Duration
	for _, n := range j.Nodes {
		switch n.State {
		case "failed":
			failed++
			done++
		case "loaded", "leaving", "done":
			n.Percent = 100
			done++
		}
		p := int(n.Percent)
		sum += p
		if p < lowest {
			lowest, slowest = p, n.Name
		}
		highest = max(highest, p)
		boot = max(boot, l.ups[n.Name].Sub(l.from[n.Name]))
	}
	left := 0
	if j.Accepted != nil && !j.Accepted.Deadline.IsZero() {
		left = max(0, int(j.Accepted.Deadline.Sub(now).Seconds()))
	}
	return fmt.Sprintf("Progress(%d/%d/%d): %d/%d/%d min(%s)/avg/max (%d) - Timeout: %d sec.",
		done, failed, len(j.Nodes), lowest, sum/len(j.Nodes), highest, omfName(slowest), int(boot.Seconds()), left)
}

var gridName = regexp.MustCompile(`^n([0-9]+)-([0-9]+)$`)

// omfName is what OMF 4 calls a node of the grid.
func omfName(node string) string { return gridName.ReplaceAllString(node, "n_${1}_${2}") }

// results are the nodes of a finished job by how it went for them, in the order of the request.
type results struct {
	success, checkin, failed, timeout []string
}

func resultsOf(j *display.Job) (r results) {
	if j.Result == nil {
		return r
	}
	for _, n := range j.Result.Results {
		switch {
		case n.OK:
			r.success = append(r.success, n.Node)
		case n.Class == events.ClassCheckin || n.Class == events.ClassPower:
			r.checkin = append(r.checkin, n.Node)
		case n.Class == events.ClassTimeout || n.Class == events.ClassStalled || n.Class == events.ClassJoin:
			r.timeout = append(r.timeout, n.Node)
		default:
			r.failed = append(r.failed, n.Node)
		}
	}
	return r
}

// kept is one topology of a result.
type kept struct {
	file, name, about string // path, topology, what the nodes have in common
	nodes             []string
}

// topologies are the files of a result as OMF 5 names them.
func (r results) topologies(path, prefix string) []kept {
	var out []kept
	for _, c := range []struct {
		word, about string
		nodes       []string
	}{
		{"checkinfailed", "nodes that failed to check in", r.checkin}, {"imagefailed", "nodes that failed to image the disk", r.failed},
		{"timeout", "nodes that timed out", r.timeout}, {"success", "nodes that were successfully imaged", r.success},
	} {
		if len(c.nodes) > 0 {
			name := prefix + "-topo-" + c.word
			out = append(out, kept{filepath.Join(path, name+".rb"), name, c.about, c.nodes})
		}
	}
	return out
}

// keep writes a topology. The disks are what they are, whether this works or not.
func (k kept) keep() error {
	var text strings.Builder
	if err := nodeset.WriteTopology(&text, k.name, k.about, k.nodes); err != nil {
		return err
	}
	return outfile.Write(k.file, []byte(text.String()))
}

// summarize writes the topologies that were asked for and prints OMF's summary.
func (l legacyLoad) summarize(a *app, j *display.Job) {
	r := resultsOf(j)
	path, prefix := l.outPath, l.outPrefix
	if path == "" {
		path = "/tmp"
	}
	if prefix == "" {
		prefix = j.ID
	}
	if l.wanted() {
		for _, k := range r.topologies(path, prefix) {
			if err := k.keep(); err != nil {
				fmt.Fprintf(a.stderr, "omf: topology of the %s: %v\n", k.about, err)
			}
		}
	}
	if !l.output || a.output != "text" {
		return
	}
	rule := " " + strings.Repeat("-", 29)
	fmt.Fprintf(a.stdout, "%s\n Imaging Process Done\n", rule)
	for _, line := range []struct {
		n    []string
		what string
	}{
		{r.checkin, "failed to check in"}, {r.failed, "failed"}, {r.timeout, "timed-out"}, {r.success, "succesfully imaged"}, // sic
	} {
		if len(line.n) == 0 {
			continue
		}
		note := ""
		if l.wanted() {
			for _, k := range r.topologies(path, prefix) {
				if len(k.nodes) > 0 && k.nodes[0] == line.n[0] {
					note = " - See the topology file: '" + k.file + "'"
				}
			}
		}
		fmt.Fprintf(a.stdout, " - %d node(s) %s%s\n", len(line.n), line.what, note)
	}
	fmt.Fprintln(a.stdout, rule)
}
