// Package disk is the one place that opens disks: block devices of the machine, and regular files that stand for them.
//
// It lists the disks with their identity ([Gate.List]), finds the one that a selector means, says whether a disk may be
// overwritten ([Check], the safety gate of docs/disks.md), and gives positioned reads and writes, zeroing,
// discarding ([Discarder]) and syncing ([Open]), through the page cache or around it. The gate reads /sys and /proc;
// [Gate] takes other roots for tests.
//
// What does not live here: partition tables (transfer/disk/ptable), the image format (transfer/ndz), what is
// written where (transfer/install).
package disk
