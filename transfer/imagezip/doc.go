// Package imagezip captures disks, partitions and filesystems as .ndz images.
//
// [Capture] finds out which sectors of a source are in use, reads only those, and writes them with [ndz.Writer].
// [Examine] says what that would be. What is on a source is recognised by what lies on it, never by what a partition
// table calls it: a disk by its table, a filesystem by its superblock (the packages below this one, one for each kind).
// Everything else is saved whole, and the plan says what it seems to be.
//
// # Zeros
//
// An image has no record for a run of zeros, only for sectors it carries and sectors it says nothing about; those keep
// what the target had before unless the installer fills them. So zeros that are in use are carried. They cost little:
// holes of sparse files are not read, and a megabyte of zeros has about a kilobyte in an image. [Options.DropZeros]
// leaves them out, for images that are only ever installed with zero fill.
//
// # Many small free runs
//
// A chunk of an image describes 505 runs of sectors. A source in many pieces therefore makes chunks that are not full:
// each run costs at most 1/505 of a chunk, about 2 KiB of image. A free run of [DefaultMinFree] sectors is 32 KiB, some
// 10 KiB in an image, so leaving it out pays even then, and images stay below the size of their data plus 2 KiB for each
// run. Shorter runs are saved; what is to be done with the old data in them is up to [Options.ZeroShort].
//
// What does not live here: the image format (transfer/ndz), devices (transfer/disk), partition tables
// (transfer/disk/ptable), filesystems (the packages below).
package imagezip
