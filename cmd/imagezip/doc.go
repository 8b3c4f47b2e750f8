// Imagezip captures a disk, a partition or a filesystem as an .ndz image, with the options of the original program
// (specs/ndz-format.md §11) and a few long ones.
//
//	imagezip /dev/sda disk.ndz             the whole disk: tables, boot track, every partition
//	imagezip -s 2 /dev/sda root.ndz        partition 2, to be installed into any partition
//	imagezip -i /dev/sda                   what would be saved, partition by partition
//	imagezip -R 3 -I 4 /dev/sda disk.ndz   partition 3 whole, nothing of partition 4
//	imagezip -z1 -r /dev/sdb - | ssh host "cat > sdb.ndz"
//	imagezip -U disk.sig /dev/sda disk.ndz; imagezip -H disk.sig /dev/sda changes.ndz
//
// What is on a partition is recognised by what lies there: free space of ext2, ext3, ext4, XFS, FAT12, FAT16, FAT32, NTFS
// and Linux swap is left out; btrfs, LVM, RAID members, LUKS and everything else is saved whole, and -i and -d name it.
// Of the space outside of partitions all is saved up to the last partition; what lies between the tables and the first
// partition beyond the first MiB is not, nor is what lies behind the last, but for the backup GPT.
//
// What is mounted is refused, also as a partition of the disk that is read or as the file behind a loop device; so is a
// filesystem that was not cleanly unmounted. With --force such a filesystem is saved whole.
//
// # Differences from the original
//
// Images are smaller and made on all cores. -1 cannot write to stdout, because every header of a V1 image holds the
// number of chunks. Relocations (LILO, BSD labels) are never written: -L refuses what would need them. Not understood are
// FreeBSD filesystems (-b, -M; use -r), refused are signed and encrypted images (-a, -e, -k). A signature (-U) is made of
// a whole image, not of a delta; it has SHA-1 over 64 KiB each, and those with MD5 are read as well.
package main
