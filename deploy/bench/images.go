package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

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
	b.judge("size of `omf-agent`, static and stripped", "< 12 MB", st.Size() < 12e6, "%.1f MB", float64(st.Size())/1e6)
	return nil
}

// sources fills a file with the Go tree's files, more than once if they are not
// enough: real data that is on every machine that can build this.
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
	for last := int64(-1); n < size && n > last; {
		last = n
		err = filepath.WalkDir(strings.TrimSpace(string(root)), func(path string, d os.DirEntry, err error) error {
			switch {
			case err != nil || !d.Type().IsRegular():
				return err
			case n >= size:
				return filepath.SkipAll
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			k, err := f.Write(data[:min(int64(len(data)), size-n)])
			n += int64(k)
			return err
		})
		if err != nil {
			return n, err
		}
	}
	n -= n % 512
	return n, f.Truncate(n)
}

// images makes data and image, and measures the way back.
func (b *bench) images(ctx context.Context) error {
	var err error
	if b.bytes, err = sources(ctx, b.path("data"), int64(b.mib)<<20); err != nil {
		return err
	}
	u, _, err := b.run(ctx, "imagezip", "-r", b.path("data"), b.path("data.ndz"))
	if err != nil {
		return err
	}
	data := float64(b.bytes)
	b.note("`imagezip` level 4, data read", "%.0f MB/s, %.2f CPU-s/GB, %.0f MB", data/1e6/u.wall.Seconds(), u.cpu.Seconds()/data*1e9, u.rss)
	st, err := os.Stat(b.path("data.ndz"))
	if err != nil {
		return err
	}
	b.image = st.Size()
	b.note("size of the image", "%.1f MiB of %.1f MiB", float64(b.image)/(1<<20), data/(1<<20))
	u, _, err = b.run(ctx, "imageunzip", b.path("data.ndz"), b.path("restored"))
	if err != nil {
		return err
	}
	b.note("`imageunzip`, data written and synced", "%.0f MB/s, %.2f CPU-s/GB, %.0f MB", data/1e6/u.wall.Seconds(), u.cpu.Seconds()/data*1e9, u.rss)
	return nil
}

// imagezip compares one core with two: the same program, told how many it has.
func (b *bench) imagezip(ctx context.Context) error {
	if runtime.NumCPU() < 2 {
		b.note("`imagezip` on two cores ÷ one", "this machine has one")
		return nil
	}
	var best [3]float64 // seconds, by cores
	for range b.rounds() {
		for cores := 1; cores <= 2; cores++ {
			cmd := exec.CommandContext(ctx, b.path("imagezip"), "-r", b.path("data"), "-")
			cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", cores))
			u, err := measure(cmd) // its output is thrown away
			if err != nil {
				return fmt.Errorf("imagezip with %d cores: %w", cores, err)
			}
			if s := u.wall.Seconds(); best[cores] == 0 || s < best[cores] {
				best[cores] = s
			}
		}
	}
	ratio := best[1] / best[2]
	mb := float64(b.bytes) / 1e6
	b.judge("`imagezip` on two cores ÷ one", "≥ 1.6", ratio >= 1.6, "%.2f (%.0f, %.0f MB/s)", ratio, mb/best[2], mb/best[1])
	return nil
}

// pipeline compares one core with two: chunks in memory, checked, inflated and
// written to nowhere.
func (b *bench) pipeline(ctx context.Context) error {
	if runtime.NumCPU() < 2 {
		b.note("client pipeline on two cores ÷ one", "this machine has one")
		return nil
	}
	var best [3]float64
	var spent float64
	const times = 2
	for range b.rounds() {
		for cores := 1; cores <= 2; cores++ {
			p, err := b.cast(ctx, 1, "install", installing{b.path("data.ndz"), cores, times}, fmt.Sprintf("GOMAXPROCS=%d", cores))
			if err != nil {
				return err
			}
			if err := p.begin(); err != nil {
				return err
			}
			var r installed
			if err := p.result(&r); err != nil {
				return err
			}
			if s := r.Seconds / float64(times); best[cores] == 0 || s < best[cores] {
				best[cores] = s
			}
			spent = r.CPU / float64(times)
		}
	}
	ratio := best[1] / best[2]
	mb := float64(b.bytes) / 1e6
	b.judge("client pipeline, memory to null, on two cores ÷ one", "≥ 1.7", ratio >= 1.7, "%.2f (%.0f, %.0f MB/s of data; %.2f CPU-s for each GB of image)",
		ratio, mb/best[2], mb/best[1], spent/b.gb())
	return b.hashing()
}

// hashing is what the digests of an image cost, once for each session.
func (b *bench) hashing() error {
	data, err := os.ReadFile(b.path("data.ndz"))
	if err != nil {
		return err
	}
	before := cpu()
	sha256.Sum256(data)
	b.note("hashing an image, once per session", "%.2f CPU-s/GB", (cpu()-before)/b.gb())
	return nil
}
