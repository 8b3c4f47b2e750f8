// Package ptable reads the partition table of a disk, checks it, and writes it back changed: MBR with logical
// partitions, and GPT with both of its copies.
//
// [Read] gives a [Table] or says that there is none ([ErrNone]) or that what is there cannot be trusted ([ErrTable]):
// partitions that overlap each other or the tables, that lie beyond the end of the disk, a chain of logical partitions
// that runs in circles. A damaged primary GPT is replaced by the backup, and [Table.Notes] says so. Tables of disks with
// sectors of 4096 bytes are read and written as such; all numbers in the exported interface are sectors of 512 bytes,
// the unit of the image format (specs/ndz-format.md §1).
//
// [Table.SetType], [Table.Resize] and [Table.Relocate] change the table in memory, [Table.Write] puts it on the disk in
// such an order that one valid copy exists at any moment.
//
// What does not live here: what is inside partitions (transfer/imagezip), growing filesystems (transfer/grow), telling
// the kernel of a changed table.
package ptable
