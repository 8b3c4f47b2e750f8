package personalise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"loadnode/transfer/disk"
	"loadnode/transfer/disk/loop"
	"loadnode/transfer/disk/ptable"
)

// Reasons for which nothing was changed.
var (
	// ErrNoRoot says that no partition of the disk holds a system.
	ErrNoRoot = errors.New("no partition holds a Linux system that can be mounted")
	// ErrSeveral says that more than one partition does.
	ErrSeveral = errors.New("several partitions hold a system")
)

// kinds are the filesystems that are mounted, with their options.
var kinds = []struct{ name, options string }{{"ext4", ""}, {"xfs", "nouuid"}, {"btrfs", ""}}

const (
	sector = 512
	// maxPartitions bounds the partitions that are looked into.
	maxPartitions = 64
)

// extent is a part of a disk.
type extent struct {
	number    int // of the partition; 0: the whole disk
	off, size int64
}

// Disk writes into the system on a disk, or in a file that stands for one, and syncs. The disk must not be in use. It
// needs the right to mount (CAP_SYS_ADMIN). The filesystems are mounted in a mount namespace of one thread, which ends
// here and takes the mount with it whatever happens.
func Disk(ctx context.Context, path string, c Config) error {
	parts, err := partitions(path)
	if err != nil {
		return fmt.Errorf("personalise %s: %w", path, err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has another namespace
		done <- inNamespace(func(dir string) error { return visit(ctx, dir, path, parts, c) })
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("personalise %s: %w", path, err)
	}
	return nil
}

// partitions lists what may hold a system: the partitions of a table, or all of a disk without one.
func partitions(path string) ([]extent, error) {
	target, err := disk.Open(path, disk.Options{Regular: true}) // nobody else may have it
	if err != nil {
		return nil, err
	}
	defer target.Close()
	t, err := ptable.Read(target, target.Size())
	if errors.Is(err, ptable.ErrNone) {
		return []extent{{0, 0, target.Size()}}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []extent
	for _, p := range t.Partitions {
		if p.Extended() || p.Sectors == 0 {
			continue
		}
		out = append(out, extent{p.Number, int64(p.Start) * sector, int64(p.Sectors) * sector})
	}
	if len(out) > maxPartitions {
		return nil, fmt.Errorf("%d partitions are too many, at most %d are looked into", len(out), maxPartitions)
	}
	return out, nil
}

// inNamespace gives f a folder whose mounts nobody else sees.
func inNamespace(f func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "personalise")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("no mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("no mount namespace: %w", err)
	}
	return f(dir)
}

// visit finds the one partition with a system, looking without writing, and writes into it.
func visit(ctx context.Context, dir, path string, parts []extent, c Config) error {
	var found []extent
	var why []error
	for _, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		system := false
		err := mounted(dir, path, p, true, func(root *os.Root) error {
			system = holdsSystem(root)
			return nil
		})
		switch {
		case errors.Is(err, errUnknown):
		case err != nil:
			why = append(why, fmt.Errorf("partition %d: %w", p.number, err))
		case system:
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 0:
		return errors.Join(append([]error{ErrNoRoot}, why...)...)
	case len(found) > 1:
		return fmt.Errorf("%w: %d and %d; which one starts is not known", ErrSeveral, found[0].number, found[1].number)
	}
	return mounted(dir, path, found[0], false, func(root *os.Root) error { return Tree(root, c) })
}

// holdsSystem says whether a tree is the root of a system: it says which one, or which filesystems it mounts.
func holdsSystem(root *os.Root) bool {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release", "etc/fstab"} {
		// os-release is often a link, which may lead anywhere; that it is there is enough.
		if info, err := root.Lstat(name); err == nil && (info.Mode().IsRegular() || info.Mode()&fs.ModeSymlink != 0) {
			if d, err := root.Lstat("etc"); err == nil && d.IsDir() {
				return true
			}
		}
	}
	return false
}

// errUnknown says that a partition holds no filesystem that is mounted here.
var errUnknown = errors.New("no filesystem that is known")

// mounted mounts a part of a disk for as long as f runs, and syncs what it wrote.
func mounted(dir, path string, p extent, readOnly bool, f func(*os.Root) error) (err error) {
	kind, options, err := probe(path, p)
	if err != nil {
		return err
	}
	device, err := loop.Attach(path, p.off, p.size, readOnly)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NOSYMFOLLOW)
	if readOnly {
		flags |= unix.MS_RDONLY
		// A journal that was not played back is played back when it is written to.
		if none := map[string]string{"ext4": "noload", "xfs": "norecovery", "btrfs": ""}[kind]; none != "" {
			options = strings.TrimPrefix(options+","+none, ",")
		}
	}
	if err := unix.Mount(device.Name(), dir, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s: %w", kind, err)
	}
	defer func() {
		if e := unix.Unmount(dir, 0); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount: %w", e))
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = f(root)
	if !readOnly {
		err = errors.Join(err, syncAll(dir))
	}
	return errors.Join(err, root.Close())
}

func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// owner is whom a file belongs to.
func owner(info fs.FileInfo) (uid, gid int, ok bool) {
	if info == nil {
		return 0, 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}
