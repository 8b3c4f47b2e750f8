// Command imageunzip writes an .ndz image to a disk, a file or stdout. Its options are those of the original program as
// far as they apply (specs/ndz-format.md section 11); options that belong to things it does not do are refused, never
// ignored. Disks pass the safety gate of transfer/disk first: mounted ones, for example, are never written.
package main
