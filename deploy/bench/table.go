package main

import (
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"
)

// row is a line of the table. Rows without a goal are for information.
type row struct{ what, value, goal, verdict string }

// bench is one run.
type bench struct {
	options
	dir   string
	place *place
	rows  []row
	bytes int64  // of the data
	image int64  // of the image, bytes
	busy  string // what others did on this machine before: its load average
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// gb is the size of the image in units of 10⁹ bytes.
func (b *bench) gb() float64 { return float64(b.image) / 1e9 }

// note adds a row without a goal.
func (b *bench) note(what, format string, args ...any) {
	b.rows = append(b.rows, row{what: what, value: fmt.Sprintf(format, args...)})
}

// judge adds a row with one.
func (b *bench) judge(what, goal string, met bool, format string, args ...any) {
	verdict := "missed"
	if met {
		verdict = "met"
	}
	b.rows = append(b.rows, row{what, fmt.Sprintf(format, args...), goal, verdict})
}

func (b *bench) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s/%s, %d processors, load %s before, %s, %s; hosts: %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.busy,
		runtime.Version(), time.Now().UTC().Format(time.DateOnly), b.place)
	fmt.Fprintln(w, "| what | measured | goal | |\n|---|---:|---|---|")
	for _, r := range b.rows {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", r.what, r.value, r.goal, r.verdict)
	}
}
