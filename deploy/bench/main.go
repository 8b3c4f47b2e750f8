// Command bench measures loadnode as its users meet it: whole processes, their
// processor time, memory and size, and the Go benchmarks of the parts. It
// prints one Markdown table; docs/performance.md says what the rows mean.
//
//	go run ./deploy/bench [-parts=false] [-mib 256] [-nodes 100]
//
// It sends traffic on the loopback interface only and needs no root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func main() {
	parts := flag.Bool("parts", true, "run the Go benchmarks of the packages first")
	mib := flag.Int("mib", 256, "size of the data that is imaged, MiB")
	nodes := flag.Int("nodes", 100, "simulated nodes of the job whose overhead is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *parts, *mib, *nodes); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, parts bool, mib, nodes int) error {
	if parts {
		if err := benchmarks(ctx); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "loadnode-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, rows: []row{}}
	if err := b.build(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return b.images(ctx, mib) },
		func(ctx context.Context) error { return b.sessions(ctx) },
		func(ctx context.Context) error { return b.job(ctx, nodes) },
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.print()
	return nil
}

// benchmarks runs those of the packages, their output as it is.
func benchmarks(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchtime", "2s", "./bus", "./transfer/...")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

type row struct{ what, value, goal string }

type bench struct {
	dir  string
	rows []row
	mib  float64 // compressed size of the image, MiB
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) add(what, goal, format string, args ...any) {
	b.rows = append(b.rows, row{what, fmt.Sprintf(format, args...), goal})
}

func (b *bench) print() {
	fmt.Printf("\n%s/%s, %d processors, %s, %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	fmt.Println("| what | measured | goal |\n|---|---:|---|")
	for _, r := range b.rows {
		fmt.Printf("| %s | %s | %s |\n", r.what, r.value, r.goal)
	}
}

// build makes the commands as they are shipped: static and stripped.
func (b *bench) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.dir+"/",
		"./cmd/omf", "./cmd/omf-agent", "./cmd/frisbee", "./cmd/frisbeed", "./cmd/imagezip", "./cmd/imageunzip")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	st, err := os.Stat(b.path("omf-agent"))
	if err != nil {
		return err
	}
	b.add("size of `omf-agent`, static and stripped", "< 12 MB", "%.1f MB", float64(st.Size())/1e6)
	return nil
}

// sources writes up to size bytes of the Go tree's files into one: real data
// that is on every machine that can build this.
func sources(ctx context.Context, file string, size int64) (int64, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return 0, err
	}
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n int64
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root))), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n >= size {
			return filepath.SkipAll
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if int64(len(data)) > size-n {
			data = data[:size-n]
		}
		k, err := f.Write(data)
		n += int64(k)
		return err
	})
	if err != nil {
		return n, err
	}
	n -= n % 512
	return n, f.Truncate(n)
}
