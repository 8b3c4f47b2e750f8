// Package grow makes a disk whole again after an image of a smaller disk was restored onto it: the backup GPT moves to
// the end, the last partition becomes longer, and the filesystem in it with the partition.
//
// [Disk] looks at everything before it writes anything, and refuses what it does not expect: a damaged table, a
// filesystem that was not cleanly unmounted, members of a RAID. ext2, ext3, ext4, XFS and btrfs are resized by the
// kernel, mounted for a moment where nobody else sees it; where that is not possible, ext by resize2fs. Every other
// filesystem is left as it is in a longer partition, and the [Result] says so.
//
// What is possible where: an imaging system needs loop devices and the kernel's driver of the filesystem (modules loop
// and ext4, xfs or btrfs) and the right to mount; it needs no tools. Without them the partition is made longer and the
// error says that the filesystem was not; ext4 that the kernel does not resize while mounted (no right to, or a feature
// it cannot) needs resize2fs. Filesystems of version ext2 and ext3 are resized by the driver of ext4.
//
// What does not live here: partition tables themselves (transfer/disk/ptable), restoring images (transfer/install).
package grow
