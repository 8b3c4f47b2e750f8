package display

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table writes rows in columns, two spaces apart, under a header. Cells are
// freed of control characters; the last column is not padded.
func Table(w io.Writer, header []string, rows [][]string) error {
	width := make([]int, len(header))
	clean := make([][]string, 0, len(rows)+1)
	for _, row := range append([][]string{header}, rows...) {
		r := make([]string, len(header))
		for i := range r {
			if i < len(row) {
				r[i] = Clean(row[i])
			}
			if r[i] == "" {
				r[i] = "-"
			}
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
		clean = append(clean, r)
	}
	var b strings.Builder
	for _, r := range clean {
		for i, cell := range r {
			b.WriteString(cell)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Summary writes how a job ended: a line for the job and, where nodes failed,
// a table of those with the next thing to do.
func Summary(w io.Writer, j *Job) error {
	var b strings.Builder
	switch {
	case j.Rejected != nil:
		fmt.Fprintf(&b, "job %s refused: %s\n", j.ID, Clean(j.Rejected.Message))
		if j.Rejected.Hint != "" {
			fmt.Fprintf(&b, "  %s\n", Clean(j.Rejected.Hint))
		}
	case j.Result != nil && j.Accepted != nil && j.Accepted.DryRun:
		fmt.Fprintf(&b, "job %s planned: %s on %s\n", j.ID, Clean(j.Accepted.Image.Name), count(len(j.Accepted.Nodes), "node"))
		var rows [][]string
		for _, n := range j.Accepted.Nodes {
			rows = append(rows, []string{n.Name, n.Disk, n.Agent, n.Power})
		}
		if err := Table(&b, []string{"NODE", "DISK", "AGENT", "POWER"}, rows); err != nil {
			return err
		}
	case j.Result != nil:
		fmt.Fprintf(&b, "job %s %s: %d ok, %d failed in %s\n", j.ID, j.Result.Outcome, j.Result.OK, j.Result.Failed, seconds(j.Took()))
		var rows [][]string
		for _, r := range j.Result.Results {
			if !r.OK {
				rows = append(rows, []string{r.Node, string(r.Class), r.Error, r.Hint})
			}
		}
		if len(rows) > 0 {
			if err := Table(&b, []string{"NODE", "CLASS", "ERROR", "WHAT TO DO"}, rows); err != nil {
				return err
			}
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
