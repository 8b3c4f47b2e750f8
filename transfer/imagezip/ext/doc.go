// Package ext finds the free space of ext2, ext3 and ext4 filesystems: with 64bit, flex_bg, meta_bg, bigalloc,
// sparse_super2 and uninitialised groups, as today's mke2fs makes them.
//
// What does not live here: anything inside files and directories, and the journal's content.
package ext
