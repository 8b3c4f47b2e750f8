// Package personalise writes into the system on a disk that an image was just loaded onto: host name, machine id, keys
// of its SSH server and of its users, and a NoCloud seed for cloud-init. [Disk] finds and mounts the root filesystem,
// where nobody else sees it; [Tree] writes.
//
// The image is not trusted. Its root is opened as an [os.Root], and nothing outside it is ever reached: a symbolic link
// that leads out is an error, a file that is to be replaced is replaced and never written through, and what is read is
// bounded and a regular file. The filesystem is mounted nosuid, nodev and noexec; none of its programs is run. What
// remains is the kernel's own code that reads filesystems, which a hostile image can attack as on every mount: only
// images that are allowed onto the node anyway are mounted, and only when the request asks for it.
//
// ext2, ext3, ext4, XFS and btrfs are mounted, if the kernel that runs has them. LVM, RAID and encrypted disks are not
// looked into, and nothing is changed on them.
package personalise
