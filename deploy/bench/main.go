// Command bench measures loadnode as its users meet it: whole processes, their
// processor time, memory and size, and the ways of the data plane side by side
// with the slow ones. It prints one Markdown table, in which every row with a
// goal says whether it was met; docs/performance.md says what the rows mean.
//
//	go run ./deploy/bench [-quick] [-parts=false] [-only WORD] [-mib 1000] [-nodes 100]
//
// It sends traffic on the loopback interface only, and as root between network
// namespaces that it makes and removes (deploy/lab).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintf(os.Stderr, "bench, %s: %v\n", role, err)
			os.Exit(1)
		}
		return
	}
	o := options{}
	flag.BoolVar(&o.quick, "quick", false, "less data and fewer repetitions: a minute in all, and rougher figures")
	flag.BoolVar(&o.parts, "parts", true, "run the Go benchmarks of the packages first (not with -quick)")
	flag.StringVar(&o.only, "only", "", "only the steps whose names contain this: "+strings.Join(names(), ", "))
	flag.IntVar(&o.mib, "mib", 0, "size of the data that is imaged, MiB (default 1000, with -quick 96)")
	flag.IntVar(&o.nodes, "nodes", 100, "simulated nodes of the job whose overhead is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	quick, parts bool
	only         string
	mib, nodes   int
}

// step is one group of figures.
type step struct {
	name string
	run  func(*bench, context.Context) error
}

// steps in their order. images makes what the others send, and always runs.
func steps() []step {
	return []step{
		{"images", (*bench).images},
		{"imagezip", (*bench).imagezip},
		{"pipeline", (*bench).pipeline},
		{"modes", (*bench).modes},
		{"sixteen", (*bench).sixteen},
		{"load", (*bench).load},
		{"overdrive", (*bench).overdrive},
		{"sessions", (*bench).sessions},
		{"memory", (*bench).memory},
		{"job", (*bench).job},
	}
}

func names() (out []string) {
	for _, s := range steps() {
		out = append(out, s.name)
	}
	return out
}

func run(ctx context.Context, o options) error {
	if o.mib == 0 {
		o.mib = 1000
		if o.quick {
			o.mib = 96
		}
	}
	load := busy()
	if o.parts && !o.quick && o.only == "" {
		if err := benchmarks(ctx); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "loadnode-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, dir: dir, busy: load}
	if err := b.build(ctx); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	defer b.place.close()
	for _, s := range steps() {
		if s.name != "images" && !strings.Contains(s.name, o.only) {
			continue
		}
		begun := time.Now()
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.1f s\n", s.name, time.Since(begun).Seconds())
	}
	b.print(os.Stdout)
	return nil
}

// busy is the load average of the last minute. Ratios of a busy machine say little.
func busy() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(data), " ")
	return one
}

// benchmarks runs those of the packages, their output as it is.
func benchmarks(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchtime", "0.2s", "./bus", "./transfer/...")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// rounds is how often a comparison is repeated; the best of each side counts.
func (b *bench) rounds() int {
	if b.quick {
		return 1
	}
	return 3
}
