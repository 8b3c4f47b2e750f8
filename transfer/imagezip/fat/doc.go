// Package fat reads the free space of FAT12, FAT16 and FAT32 filesystems (ndz-format §8.3).
//
// A cluster is free if its entry is zero in every copy of the file allocation table and no entry leads to it. All else
// is in use: boot sectors, the copies of the table, the root directory, clusters marked bad, and what lies behind the
// last cluster.
//
// What does not live here: exFAT, which shares only the name (transfer/imagezip/probe names it), and BitLocker To Go,
// whose boot sector looks like that of FAT32.
package fat
