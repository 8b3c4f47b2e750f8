// Package free says what is free: runs of sectors that hold nothing, and what a probe found out about a filesystem.
//
// The one rule of everything that makes a [List]: a sector that a file, metadata, a journal, a backup superblock or boot
// code uses is never called free. In doubt it is in use.
//
// What does not live here: the filesystems themselves (the packages beside this one, one each), and what is done with
// free space (transfer/imagezip).
package free
