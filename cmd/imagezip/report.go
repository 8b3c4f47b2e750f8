package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"loadnode/transfer/imagezip"
	"loadnode/transfer/ndz"
)

// report says what was captured.
func (p *program) report(stats imagezip.Stats, elapsed time.Duration) {
	if p.debug > 0 {
		p.describe(p.stderr, stats.Plan)
	}
	for _, note := range stats.Notes {
		fmt.Fprintf(p.stderr, "imagezip: warning: %s\n", note)
	}
	if stats.BadSectors > 0 {
		fmt.Fprintf(p.stderr, "imagezip: warning: %d sectors could not be read and are zeros in the image\n", stats.BadSectors)
	}
	if p.options.Base != nil && stats.Same == 0 {
		fmt.Fprintf(p.stderr, "imagezip: whole image, no delta: %d sectors are to be saved\n", stats.Used)
	}
	if stats.Same > 0 {
		fmt.Fprintf(p.stderr, "imagezip: delta: %d of %d sectors are in the base image already; install it over that image, WITHOUT zero fill\n", stats.Same, stats.Used)
	}
	if stats.Dropped > 0 {
		fmt.Fprintf(p.stderr, "imagezip: %d sectors of zeros are not in the image: install it with zero fill (imageunzip -z) only\n", stats.Dropped)
	}
	fmt.Fprintf(p.stderr, "%d of %d sectors in %d chunks, %d bytes of data in %.1f s (%.1f MB/s)\n", stats.Used, stats.Sectors, stats.Chunks,
		stats.DataBytes, elapsed.Seconds(), float64(stats.DataBytes)/1e6/elapsed.Seconds())
}

// describe says what a plan is, partition by partition.
func (p *program) describe(w io.Writer, plan imagezip.Plan) {
	fmt.Fprintf(w, "%s: %s", p.input, plan.Kind)
	if plan.Label != "" {
		fmt.Fprintf(w, " %q", plan.Label)
	}
	fmt.Fprintf(w, ", %d sectors: %d to save (%d bytes), %d free, %d free in runs too short to leave out\n",
		plan.Sectors, plan.Used, plan.Used*ndz.SectorSize, plan.Free, plan.Forgotten)
	if len(plan.Parts) == 1 && plan.Parts[0].Holds != "" {
		fmt.Fprintf(w, "  saved whole: %s\n", plan.Parts[0].Holds)
	}
	if len(plan.Parts) > 1 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprint(t, "partition\tfirst sector\tsectors\tto save\tfree\tshort free\t  what\n")
		for _, q := range plan.Parts {
			number, what := "-", q.Kind
			if q.Number > 0 {
				number = fmt.Sprint(q.Number)
			}
			if q.Holds != "" {
				what += " (" + q.Holds + ")"
			}
			if q.Label != "" {
				what += fmt.Sprintf(" %q", q.Label)
			}
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t  %s\n", number, q.Start, q.Sectors, q.Used, q.Free, q.Forgotten, what)
		}
		t.Flush()
	}
	if p.info {
		for _, note := range plan.Notes {
			fmt.Fprintf(w, "note: %s\n", note)
		}
	}
}

// progress returns a function that shows each twentieth of the way.
func (p *program) progress() func(done, total int64) {
	shown := int64(0)
	return func(done, total int64) {
		if total <= 0 {
			return
		}
		if now := done * 20 / total; now > shown {
			shown = now
			fmt.Fprintf(p.stderr, "imagezip: %3d %%, %d of %d MB read\n", now*5, done/1e6, total/1e6)
		}
	}
}

// dots shows a dot for each chunk written.
type dots struct {
	w      io.Writer
	stderr io.Writer
}

func (d *dots) Write(p []byte) (int, error) {
	fmt.Fprint(d.stderr, ".")
	return d.w.Write(p)
}
