// Package imagezip captures disks and filesystems as .ndz images.
//
// [Capture] finds out which sectors of a source are in use, reads only those, and writes them with [ndz.Writer]. It
// understands ext2, ext3 and ext4 as today's mke2fs makes them (64bit, flex_bg, meta_bg, bigalloc, uninitialised
// groups), recognised by their superblock. Anything else is captured whole, but only when that is asked for: a source that is not understood is an error which names the options.
//
// What does not live here: the image format (transfer/ndz), devices (transfer/disk), filesystems (the
// packages below), partition tables of whole disks.
package imagezip
