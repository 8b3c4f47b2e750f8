// Package ntfs reads the free space of NTFS filesystems (ndz-format §8.3): the clusters that $Bitmap calls free, found
// through the boot sector, the master file table ($MFT) and its record number 6.
//
// The contents of pagefile.sys and hiberfil.sys are left out as well if both are beyond doubt what Windows made: they
// mean nothing to the next start. Their first 64 KiB are saved, where Windows looks whether they do.
//
// A volume is unclean if its dirty flag is set, if its log ($LogFile) is not closed, or if Windows is hibernated on it:
// what is on the disk then is not all of the truth.
//
// Records are only believed if their fixups are right, numbers only within their limits. What does not live here:
// BitLocker volumes and ReFS, which transfer/imagezip/probe names.
package ntfs
