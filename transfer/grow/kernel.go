package grow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"loadnode/transfer/disk/loop"
)

// The calls that make mounted filesystems larger, which x/sys does not name.
const (
	ext4ResizeFS  = 0x40086610 // EXT4_IOC_RESIZE_FS: *uint64, blocks
	xfsGrowFSData = 0x4010586e // XFS_IOC_FSGROWFSDATA: *struct{ blocks uint64; inodes uint32 }
	btrfsResize   = 0x50009403 // BTRFS_IOC_RESIZE: *struct{ int64; name [4088]byte }
)

// The kernel could not be asked, or said no: another tool may do it.
var (
	errCannotMount = errors.New("cannot be mounted here")
	errKernel      = errors.New("the kernel refused to make it larger")
)

// grow makes the filesystem as large as its partition on path.
func (fs *filesystem) grow(ctx context.Context, path string) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	device, err := loop.Attach(path, fs.offset, fs.bytes, false)
	if err != nil {
		err = fmt.Errorf("%w: %w", errCannotMount, err)
		// resize2fs cuts a regular file to the size of the filesystem, whatever its offset: only a device is safe.
		if st, e := os.Stat(path); fs.kind != "ext4" || e != nil || st.Mode().IsRegular() {
			return err
		}
		return fs.byTool(ctx, fmt.Sprintf("%s?offset=%d", path, fs.offset), err)
	}
	defer func() { err = errors.Join(err, detach(device)) }()
	err = fs.growMounted(device.Name())
	// Refused before anything was done: no right to resize (CAP_SYS_RESOURCE), or a feature it cannot resize mounted.
	refused := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY)
	if fs.kind == "ext4" && (errors.Is(err, errCannotMount) || errors.Is(err, errKernel) && refused) {
		return fs.byTool(ctx, device.Name(), err)
	}
	return err
}

// byTool lets resize2fs do what the kernel did not, because of err.
func (fs *filesystem) byTool(ctx context.Context, device string, err error) error {
	tool := findTool("resize2fs")
	if tool == "" {
		return fmt.Errorf("%w, and resize2fs is not installed", err)
	}
	out, toolErr := exec.CommandContext(ctx, tool, "-f", device, strconv.FormatInt(fs.bytes/1024, 10)+"K").CombinedOutput()
	if toolErr != nil {
		return fmt.Errorf("%w; resize2fs: %w: %s", err, toolErr, out)
	}
	return nil
}

func findTool(name string) string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(p) {
			return p
		}
	}
	return ""
}

// growMounted mounts the partition in a mount namespace of its own, so that nobody else sees it, and asks the kernel.
// The namespace belongs to a thread that ends here, and takes the mount with it whatever happens.
func (fs *filesystem) growMounted(device string) error {
	dir, err := os.MkdirTemp("", "grow")
	if err != nil {
		return fmt.Errorf("%w: %w", errCannotMount, err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread has another namespace
		done <- fs.resizeIn(dir, device)
	}()
	return errors.Join(<-done, os.Remove(dir))
}

func (fs *filesystem) resizeIn(dir, device string) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("%w: no namespace: %w", errCannotMount, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%w: no namespace: %w", errCannotMount, err)
	}
	options := ""
	if fs.kind == "xfs" {
		options = "nouuid" // another copy of the same image may be mounted
	}
	if err := unix.Mount(device, dir, fs.kind, unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("%w: %w", errCannotMount, err)
	}
	defer func() {
		if e := unix.Unmount(dir, 0); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount: %w", e))
		}
	}()
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fs.resize(f); err != nil {
		return fmt.Errorf("%w: %w", errKernel, err)
	}
	return unix.Syncfs(int(f.Fd()))
}

func (fs *filesystem) resize(f *os.File) error {
	blocks := uint64(fs.bytes / fs.block)
	var arg unsafe.Pointer
	var call uintptr
	switch fs.kind {
	case "ext4":
		call, arg = ext4ResizeFS, unsafe.Pointer(&blocks)
	case "xfs":
		call, arg = xfsGrowFSData, unsafe.Pointer(&struct {
			blocks uint64
			inodes uint32
			_      uint32
		}{blocks: blocks, inodes: fs.inodes})
	case "btrfs":
		a := new(struct {
			fd   int64
			name [4088]byte
		})
		copy(a.name[:], "max")
		call, arg = btrfsResize, unsafe.Pointer(a)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), call, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// detach lets the loop device go. The kernel clears it when the last user has.
func detach(device *os.File) error {
	err := device.Sync()
	return errors.Join(err, device.Close())
}
