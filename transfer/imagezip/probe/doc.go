// Package probe names what a partition holds when its free space is not read: containers (LVM, RAID, encryption) and
// filesystems that are captured whole.
//
// [Member] finds what wins over a filesystem that seems to be there: the first member of a RAID array, a physical
// volume, or a filesystem that leaves the first kilobytes alone, may show the intact superblock of something that
// lived on the same sectors before it, or that lives inside and is striped over several disks. Believing that
// superblock would lose data, so Member is asked before any filesystem is. [Foreign] is asked last, when no filesystem
// was recognised, and knows weaker marks as well.
//
// Both only read magic numbers and what makes them credible, at fixed places: some 700 KiB at most. A place that
// cannot be read cannot be ruled out, and is found as well. What does not live here: filesystems whose free space is
// understood (transfer/imagezip/ext, xfs, fat, ntfs, swap), and partition tables of disks (transfer/disk/ptable).
package probe
