package display

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"loadnode/events"
)

// Row is a row of a table with lines of its own below it.
type Row struct {
	Cells []string
	Notes []string // indented under the cells; empty ones are left out
}

// leastRoom is how narrow the last column of a table may become, in cells.
const leastRoom = 24

// arrow begins what to do next.
const arrow = "→ "

// Hint is a note that says what to do next; "" for nothing.
func Hint(text string) string {
	if text == "" {
		return ""
	}
	return arrow + text
}

// Table writes rows in columns, two spaces apart, under a header. Cells are
// freed of control characters; the last column is not padded.
func Table(w io.Writer, header []string, rows [][]string) error {
	plain := make([]Row, 0, len(rows))
	for _, r := range rows {
		plain = append(plain, Row{Cells: r})
	}
	return Rows(w, header, plain, 0)
}

// Rows is Table with notes. The last column and the notes are broken into
// lines at width cells; 0 is for readers that want a line for a row.
func Rows(w io.Writer, header []string, rows []Row, width int) error {
	widths := make([]int, len(header))
	clean := make([][]string, 0, len(rows)+1)
	for _, row := range append([]Row{{Cells: header}}, rows...) {
		r := make([]string, len(header))
		for i := range r {
			if i < len(row.Cells) {
				r[i] = Clean(row.Cells[i])
			}
			if r[i] == "" {
				r[i] = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
		clean = append(clean, r)
	}
	last := 0 // where the last column begins
	for _, n := range widths[:len(widths)-1] {
		last += n + 2
	}
	if width > 0 {
		width = max(width, last+leastRoom)
	}
	var b strings.Builder
	for n, r := range clean {
		for i, cell := range r {
			if i == len(r)-1 {
				b.WriteString(fold(cell, width, last) + "\n")
				break
			}
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		if n == 0 {
			continue
		}
		for _, note := range rows[n-1].Notes {
			if note != "" {
				writeNote(&b, note, width)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeNote writes a line of its own, indented; what is broken off it stands
// under its text, not under its arrow.
func writeNote(b *strings.Builder, note string, width int) {
	text, pointed := strings.CutPrefix(Clean(note), arrow)
	b.WriteString("  ")
	indent := 2
	if pointed {
		b.WriteString(arrow)
		indent = 4
	}
	b.WriteString(fold(text, width, indent) + "\n")
}

func fold(s string, width, indent int) string {
	if width <= 0 {
		return s
	}
	return Wrap(s, width, indent)
}

// Summary writes how a job ended: a line for the job and, where nodes failed,
// a table of those with the next thing to do. Width is that of Rows.
func Summary(w io.Writer, j *Job, width int) error {
	var b strings.Builder
	switch {
	case j.Rejected != nil:
		b.WriteString(fold(Clean(fmt.Sprintf("job %s refused: %s", j.ID, j.Rejected.Message)), width, 2) + "\n")
		if j.Rejected.Hint != "" {
			writeNote(&b, Hint(j.Rejected.Hint), width)
		}
	case j.Result != nil && j.Accepted != nil && j.Accepted.DryRun:
		what := fmt.Sprintf("%s on %s", j.Accepted.Image.Name, count(len(j.Accepted.Nodes), "node"))
		if s := j.Accepted.Save; s != nil {
			what = fmt.Sprintf("save %s as %s", nodeNames(j.Accepted.Nodes), s.Image)
		}
		fmt.Fprintf(&b, "job %s planned: %s\n", j.ID, Clean(what))
		var rows [][]string
		for _, n := range j.Accepted.Nodes {
			rows = append(rows, []string{n.Name, n.Disk, n.Agent, n.Power})
		}
		if err := Table(&b, []string{"NODE", "DISK", "AGENT", "POWER"}, rows); err != nil {
			return err
		}
	case j.Result != nil:
		fmt.Fprintf(&b, "job %s %s: %d ok, %d failed in %s\n", j.ID, j.Result.Outcome, j.Result.OK, j.Result.Failed, seconds(j.Took()))
		if s := j.Saved; s != nil {
			fmt.Fprintf(&b, "image %s: %s of %s of disk, digest %s\n", Clean(s.Image.Name), Bytes(s.Image.Size), Bytes(s.DiskBytes), Clean(s.Image.Digest))
		}
		var failed []events.NodeResult
		for _, r := range j.Result.Results {
			if !r.OK {
				failed = append(failed, r)
			}
		}
		writeAfterwards(&b, j.Result.Results)
		if err := Failures(&b, failed, width); err != nil {
			return err
		}
	default:
		fmt.Fprintf(&b, "job %s %s\n", j.ID, j.State)
	}
	if j.Accepted != nil && len(j.Accepted.Missing) > 0 {
		fmt.Fprintf(&b, "not in the inventory: %s\n", Clean(strings.Join(j.Accepted.Missing, " ")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeAfterwards says for how many nodes what was done after the image.
func writeAfterwards(b *strings.Builder, results []events.NodeResult) {
	times := map[string]int{}
	var kinds []string
	for _, r := range results {
		if s := Afterwards(r.Grown, r.Personalised); s != "" {
			if times[s]++; times[s] == 1 {
				kinds = append(kinds, s)
			}
		}
	}
	const most = 4 // disks of different sizes: the nodes have it each
	for i, s := range kinds {
		if i == most {
			fmt.Fprintf(b, "and %d more kinds: omf job show\n", len(kinds)-most)
			break
		}
		fmt.Fprintf(b, "%s: %s\n", count(times[s], "node"), Clean(s))
	}
}

// Failures is a table of failed nodes with the next thing to do for each;
// nothing where there are none.
func Failures(w io.Writer, failed []events.NodeResult, width int) error {
	if len(failed) == 0 {
		return nil
	}
	var rows []Row
	for _, r := range failed {
		rows = append(rows, Row{Cells: []string{r.Node, string(r.Class), r.Error}, Notes: []string{Hint(r.Hint)}})
	}
	return Rows(w, []string{"NODE", "CLASS", "ERROR"}, rows, width)
}
